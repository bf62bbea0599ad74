"""Several hosts in the database's URL: connections are to the one that accepts writes."""

from typing import Any

import asyncpg
import pytest

from imageapi.database.engine import Database


@pytest.mark.parametrize(
    ("dsn", "wanted"),
    [
        ("postgresql://db1,db2/imageapi", "read-write"),
        ("postgresql://user:a,b@db1:5432,[::1]:5433/imageapi", "read-write"),
        ("postgresql:///imageapi?host=/run/a,/run/b&port=5432,5432", "read-write"),
        ("postgresql://db1,db2/imageapi?target_session_attrs=any", None),
        ("postgresql://user:a,b@db1/imageapi", None),
        ("postgresql://db1/imageapi?host=/run/a", None),
        ("postgresql:///imageapi", None),
    ],
)
async def test_one_of_several_hosts_must_accept_writes(
    dsn: str, wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    async def connect(_: str, **options: Any) -> None:
        asked.append(options)

    monkeypatch.setattr(asyncpg, "connect", connect)
    database = Database(dsn)
    await database.connect()
    await database.close()
    assert [options.get("target_session_attrs") for options in asked] == [wanted]
