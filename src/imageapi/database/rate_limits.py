"""How often somebody may ask, counted in PostgreSQL, so that all workers and machines agree.

The generic cell rate algorithm: a row says until when what was granted has used its rate up. As
many as the rate names may come at once; then one more each time its part of the period is over.
The table is not logged: after a crash of PostgreSQL counting begins anew.
"""

import asyncio
from dataclasses import dataclass
from hashlib import blake2b
from typing import Never

from sqlalchemy import text

from imageapi.database.engine import Database, Statement
from imageapi.database.errors import DatabaseUnavailable

#: How often rows that no longer hold anybody back are removed, in seconds.
_SWEEP_SECONDS = 60
_SUBJECT_BYTES = 16

# Every part says now(): the one moment of the statement.
_END = "now() + make_interval(secs => :period)"
#: Until when it is used up. What lies beyond the period was never granted by this rate: it was
#: another before, or the clock has been set back.
_USED = f"CASE WHEN rate.until > {_END} THEN now() ELSE greatest(rate.until, now()) END"
_NEXT = f"{_USED} + make_interval(secs => :part)"
_COUNT = Statement(
    text(
        "INSERT INTO rates AS rate (subject, until, granted)"  # noqa: S608 - of constants
        " VALUES (:subject, now() + make_interval(secs => :part), true)"
        " ON CONFLICT (subject) DO UPDATE SET"
        f" granted = {_NEXT} <= {_END},"
        f" until = CASE WHEN {_NEXT} <= {_END} THEN {_NEXT} ELSE rate.until END"
        " RETURNING granted, extract(epoch FROM until - now())::double precision"
    )
)
_SWEEP = Statement(
    text(
        "DELETE FROM rates WHERE subject IN (SELECT subject FROM rates"
        " WHERE until < now() LIMIT 10000 FOR UPDATE SKIP LOCKED)"
    )
)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds."""

    count: int
    seconds: float


class RateExceeded(Exception):
    """The rate is used up; in ``seconds`` there will be room for one more."""

    def __init__(self, seconds: float) -> None:
        super().__init__("That was too often.")
        self.seconds = seconds


class RateLimiter:
    """Counts those of one kind (``user``, ``address``) against one rate."""

    def __init__(self, database: Database, kind: str, rate: Rate) -> None:
        self._database = database
        self._kind = kind
        self._rate = rate

    async def count(self, name: str) -> None:
        """Count one more of this name; raises RateExceeded, DatabaseUnavailable."""
        # Kept as a digest: the name may be anything, and is nobody's business.
        told = f"{self._kind}:{name}".encode(errors="surrogatepass")
        subject = blake2b(told, digest_size=_SUBJECT_BYTES).hexdigest()
        part, period = self._rate.seconds / self._rate.count, self._rate.seconds
        [(is_granted, held_seconds)] = await self._database.read(
            _COUNT, subject=subject, part=part, period=period
        )
        if not is_granted:
            raise RateExceeded(max(held_seconds + part - period, 0.0))


async def sweep_forever(database: Database) -> Never:
    """Remove what holds nobody back any more, now and again, until cancelled."""
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        try:
            await database.read(_SWEEP)
        except DatabaseUnavailable:
            continue
