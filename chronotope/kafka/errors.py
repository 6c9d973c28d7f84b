"""The one error of a cluster that does not do what we need, in words for the user."""


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or refuses what was asked."""
