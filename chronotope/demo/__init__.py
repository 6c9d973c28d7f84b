"""The whole path on one machine, watched from outside: through its topics, its committed offsets and its metrics."""
