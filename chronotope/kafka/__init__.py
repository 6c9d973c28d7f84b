"""What the command line does with a cluster: topics, producing, offsets, dead letters."""
