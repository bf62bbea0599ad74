"""How long a store is waited for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreDeadlines:
    """Deadlines in seconds, for disks and buckets alike; the defaults are those of the service."""

    #: To connect to a bucket.
    connect_seconds: float = 3
    #: An answer of the disk or the bucket.
    answer_seconds: float = 10
    #: A picture written to the disk, or a part of one sent to the bucket.
    write_seconds: float = 30
    #: For so long a request to a bucket that failed is sent again.
    retry_seconds: float = 6
