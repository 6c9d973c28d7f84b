"""What ``bench/stream.py`` runs: the contenders, their processes, and the latency of patterns."""
