"""Rate limits, counted in PostgreSQL so that all workers and machines share them.

Allows a burst of ``count`` requests, then one more every ``period / count`` seconds: the generic
cell rate algorithm (GCRA). ``rates.until`` is the time until which the granted requests use the
rate: each moves it one interval ahead, and it must not lie more than a period ahead of now. The
table is unlogged, so after a crash of PostgreSQL counting starts from zero.
"""

import asyncio
from dataclasses import dataclass
from hashlib import blake2b
from typing import Never

from sqlalchemy import text

from imageapi.database.engine import Database
from imageapi.database.errors import DatabaseUnavailable
from imageapi.database.statement import Statement

#: How often rows whose time is over are deleted.
_SWEEP_SECONDS = 60
_SUBJECT_BYTES = 16

# now() is the same moment in the whole statement.
_END = "now() + make_interval(secs => :period_seconds)"
#: The time from which the next interval counts. A time after the end of the period was not granted
#: under this rate: the rate was another one then, or the clock was set back. It is ignored.
_START = f"CASE WHEN rate.until > {_END} THEN now() ELSE greatest(rate.until, now()) END"
_NEXT = f"{_START} + make_interval(secs => :interval_seconds)"
_COUNT_REQUEST = Statement(
    text(
        "INSERT INTO rates AS rate (subject, until, granted)"  # noqa: S608 - of constants
        " VALUES (:subject, now() + make_interval(secs => :interval_seconds), true)"
        " ON CONFLICT (subject) DO UPDATE SET"
        f" granted = {_NEXT} <= {_END},"
        f" until = CASE WHEN {_NEXT} <= {_END} THEN {_NEXT} ELSE rate.until END"
        " RETURNING granted, extract(epoch FROM until - now())::double precision"
    )
)
_DELETE_EXPIRED = Statement(
    text(
        "DELETE FROM rates WHERE subject IN (SELECT subject FROM rates"
        " WHERE until < now() LIMIT 10000 FOR UPDATE SKIP LOCKED)"
    )
)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` requests in ``seconds``."""

    count: int
    seconds: float


class RateExceeded(Exception):
    """The rate is used up; the next request is allowed in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__("That was too often.")
        self.seconds = seconds


class RateLimiter:
    """Counts the requests of each name against one rate. ``kind`` is ``user`` or ``address``."""

    def __init__(self, database: Database, kind: str, rate: Rate) -> None:
        self._database = database
        self._kind = kind
        self._rate = rate

    async def count_request(self, name: str) -> None:
        """Count one request of this name; raise RateExceeded, DatabaseUnavailable."""
        # Hashed: the name is client-supplied, of any length, and may be personal data.
        qualified = f"{self._kind}:{name}".encode(errors="surrogatepass")
        subject = blake2b(qualified, digest_size=_SUBJECT_BYTES).hexdigest()
        period_seconds = self._rate.seconds
        interval_seconds = period_seconds / self._rate.count
        [(is_granted, used_seconds)] = await self._database.read(
            _COUNT_REQUEST,
            subject=subject,
            interval_seconds=interval_seconds,
            period_seconds=period_seconds,
        )
        if not is_granted:
            raise RateExceeded(max(used_seconds + interval_seconds - period_seconds, 0.0))


async def sweep_forever(database: Database) -> Never:
    """Delete rows whose time is over, every ``_SWEEP_SECONDS``, until cancelled.

    While the database does not answer, it just tries again next time.
    """
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        try:
            await database.read(_DELETE_EXPIRED)
        except DatabaseUnavailable:
            continue
