"""Where people gather: exact density clusters of a sliding window of events."""

from processors.spatial.chunks import ChunkKey, ChunkLog, pack_identities, rebuild
from processors.spatial.covisits import CoVisit, CoVisits
from processors.spatial.crowds import CrowdChanges, CrowdTracker
from processors.spatial.dbscan import SlidingDBSCAN
from processors.spatial.geometry import EARTH_RADIUS_M
from processors.spatial.life import ClusterChanges
from processors.spatial.snapshot import ClusterRuns
from processors.spatial.summary import ClusterSummary
from processors.spatial.tiles import TileGrid, TileReport, report_of
from processors.spatial.union import ClusterUnion
from processors.spatial.validation import DBSCANSettings

__all__ = [
    "EARTH_RADIUS_M",
    "ChunkKey",
    "ChunkLog",
    "ClusterChanges",
    "ClusterRuns",
    "ClusterSummary",
    "ClusterUnion",
    "CoVisit",
    "CoVisits",
    "CrowdChanges",
    "CrowdTracker",
    "DBSCANSettings",
    "SlidingDBSCAN",
    "TileGrid",
    "TileReport",
    "pack_identities",
    "rebuild",
    "report_of",
]
