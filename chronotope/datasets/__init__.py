"""Readers of behaviour data sets: each turns a file into behaviour events in time order."""

from chronotope.datasets.catalogue import Catalogue, item_of
from chronotope.datasets.errors import DatasetError
from chronotope.datasets.readers import FORMATS, read_events

__all__ = ["FORMATS", "Catalogue", "DatasetError", "item_of", "read_events"]
