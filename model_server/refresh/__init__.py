"""When whose recommendation is computed again: triggers, coalescing, micro-batches, deadlines and a budget."""
