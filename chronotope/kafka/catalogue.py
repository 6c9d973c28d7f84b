"""What the catalogue topic holds already."""

from chronotope.kafka.reading import ends_of, read_to
from schemas.settings import KafkaSettings
from schemas.topics import CATALOG


def catalogued_items(settings: KafkaSettings) -> set[str]:
    """The ids of all items in the catalogue topic, withdrawn ones too; none if there is no such topic. O(its records).

    Raises ClusterError if it cannot be read.
    """
    keys = (message.key() for message in read_to(settings, ends_of(settings, CATALOG.name)))
    return {key.decode(errors="replace") for key in keys if key is not None}
