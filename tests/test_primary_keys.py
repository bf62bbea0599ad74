"""The tables can be distributed by album: docs/decisions/0007-growing.md."""

import re

import asyncpg

from factories import PROJECT
from imageapi.database.engine import Database
from imageapi.database.tables import metadata

#: Of no album, each with the reason why it may be.
OF_NO_ALBUM = {"rates": "of who asks", "alembic_version": "one row, Alembic's own"}
PAGE = (PROJECT / "docs/decisions/0007-growing.md").read_text()


def test_every_primary_key_starts_with_the_album() -> None:
    for table in metadata.sorted_tables:
        if table.name not in OF_NO_ALBUM:
            assert next(column.name for column in table.primary_key) == "album_id", table.name
            for key in table.foreign_key_constraints:
                assert next(iter(key.columns)).name == "album_id"


async def test_so_do_the_unique_indexes_of_the_database(database: Database, server: str) -> None:
    """As a distributed table must have them, and as the migrations have made them."""
    connection = await asyncpg.connect(server)
    rows = await connection.fetch(
        "SELECT c.relname, i.indexrelid::regclass::text AS name, a.attname FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]"
        " WHERE i.indisunique AND n.nspname = 'public'"
    )
    await connection.close()
    assert {row["relname"] for row in rows} == {table.name for table in metadata.sorted_tables} | {
        "alembic_version"
    }
    for row in rows:
        if row["relname"] not in OF_NO_ALBUM:
            assert row["attname"] == "album_id", row["name"]


def test_page_distributes_every_table() -> None:
    keys = dict(re.findall(r"create_distributed_table\('(\w+)', '(\w+)'", PAGE))
    assert keys.keys() == {table.name for table in metadata.sorted_tables}
    assert {name for name, key in keys.items() if key != "album_id"} == {"rates"}
