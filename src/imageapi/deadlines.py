"""How long the service waits for others: what `create_app` passes down."""

from dataclasses import dataclass, field

from imageapi.database.deadlines import DatabaseDeadlines
from imageapi.storage.deadlines import StoreDeadlines


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Deadlines in seconds; the defaults are those of the service, tests have shorter ones.

    Those of a connection, which belong to the server, are in `imageapi.http.connection_limits`.
    """

    database: DatabaseDeadlines = field(default_factory=DatabaseDeadlines)
    store: StoreDeadlines = field(default_factory=StoreDeadlines)
    #: A request's body, beside a second for each `MIN_BYTES_PER_SECOND` of it.
    body_seconds: float = 10
    #: A rendition, with the wait for a turn, and for what the store gives.
    rendition_seconds: float = 60
