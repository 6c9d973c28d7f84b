"""The names of the experts: what can give a share of a score, and what can be left out of the fusion."""

from model_server.fusion import exploring, returning

SHARED = tuple(sorted({*returning.NAMES, *exploring.NAMES, "sequence", "period"}))
EXPERTS = (*SHARED, "network", "patterns", "trees")
