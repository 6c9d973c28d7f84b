"""Look-ups, health and metrics over HTTP."""
