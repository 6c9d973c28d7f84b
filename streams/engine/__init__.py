"""The Faust engine: whole fetched batches to agents, batch-end commits, state kept as a log with snapshots."""
