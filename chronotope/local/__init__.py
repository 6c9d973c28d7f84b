"""The local stack: a broker, Redis and our own services as child processes that never outlive us."""
