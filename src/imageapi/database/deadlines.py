"""How long calls to the database may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DatabaseDeadlines:
    """Deadlines in seconds; the defaults are those of the service.

    Commands have no client that waits for a response, so only ``connect_seconds`` holds for them.
    """

    #: For making a connection, or getting one from the pool.
    connect_seconds: float = 5
    #: For one read.
    read_seconds: float = 10
    #: For a change, from its first statement to its commit.
    change_seconds: float = 15
    #: For work under an advisory lock, which may include more than database statements.
    advisory_lock_seconds: float = 90
