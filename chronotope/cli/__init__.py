"""The command line: one module per command, light at import time; the work is done by the packages below it."""
