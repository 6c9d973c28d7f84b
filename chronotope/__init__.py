"""The command line, the local stack, the simulator, the data-set readers and the evaluation, on top of all other packages."""
