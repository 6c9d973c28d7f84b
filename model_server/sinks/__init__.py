"""Where recommendations go: the topic, with delivery confirmation, and Redis, by compare-and-set on the version."""
