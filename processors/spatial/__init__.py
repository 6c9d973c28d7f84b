"""Where people gather: exact density clusters of a sliding window of events."""

from processors.spatial.dbscan import SlidingDBSCAN
from processors.spatial.geometry import EARTH_RADIUS_M
from processors.spatial.life import ClusterChanges
from processors.spatial.validation import DBSCANSettings

__all__ = ["EARTH_RADIUS_M", "ClusterChanges", "DBSCANSettings", "SlidingDBSCAN"]
