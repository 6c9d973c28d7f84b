"""Test-then-train evaluation of strategies on a stream of events, through the same processors and scoring as live."""
