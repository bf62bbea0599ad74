"""How long the database is waited for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DatabaseDeadlines:
    """Deadlines in seconds; the defaults are those of the service.

    Commands, which nobody waits for at the other end of a connection, have the first one only.
    """

    #: To connect, or to get a connection of the pool.
    connect_seconds: float = 5
    #: One read.
    read_seconds: float = 10
    #: A change, from its first statement to its commit.
    change_seconds: float = 15
    #: What is done under a lock by name, which may be more than asking the database.
    advisory_lock_seconds: float = 90
