"""How long the service waits for the database, the store and clients."""

from dataclasses import dataclass, field

from imageapi.database.deadlines import DatabaseDeadlines
from imageapi.storage.deadlines import StoreDeadlines


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Deadlines in seconds. The defaults are those of production; tests pass shorter ones.

    `create_app` passes them down. `imageapi.http.connection_limits` has the deadlines of a client's
    connection, because uvicorn creates its protocol.
    """

    database: DatabaseDeadlines = field(default_factory=DatabaseDeadlines)
    store: StoreDeadlines = field(default_factory=StoreDeadlines)
    #: For the body of a request, plus one second for each `MIN_BYTES_PER_SECOND` bytes of it.
    body_seconds: float = 10
    #: For making a rendition, including the wait for a free slot and for the store.
    rendition_seconds: float = 60
