"""How long to wait for a store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreDeadlines:
    """Deadlines in seconds, for folders and buckets. The defaults are those of the service."""

    #: To connect to a bucket.
    connect_seconds: float = 3
    #: For a response of the disk or the bucket.
    response_seconds: float = 10
    #: To write a picture to the disk, or to send one part of it to the bucket.
    write_seconds: float = 30
    #: For how long a request to a bucket is sent again when it fails.
    retry_seconds: float = 6
