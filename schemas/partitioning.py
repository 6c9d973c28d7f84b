"""Which partition a key belongs to: Java's default (murmur2), so that every client of every language agrees."""

MASK = 0xFFFFFFFF
CONFLUENT_PARTITIONER = {"partitioner": "murmur2_random"}


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash as Apache Kafka's Java client computes it (unsigned). O(len(data)).

    >>> murmur2(b"21") == (-973932308) % 2**32
    True
    """
    length = len(data)
    m = 0x5BD1E995
    h = (0x9747B28C ^ length) & MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * m) & MASK
        k ^= k >> 24
        k = (k * m) & MASK
        h = ((h * m) & MASK) ^ k
    rest = data[whole:]
    if rest:
        h ^= int.from_bytes(rest, "little")
        h = (h * m) & MASK
    h ^= h >> 13
    h = (h * m) & MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among ``partitions`` (> 0), as Java's default partitioner chooses it.

    >>> 0 <= partition_of(b"user-1", 4) < 4
    True
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions
