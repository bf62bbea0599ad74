"""A drill: every migration on a filled database, and how long it holds those up who use it.

    python scripts/drill_migrations.py [--images 1000000]

On the embedded database of a temporary folder, filled as of the first revision. While each
migration runs, one reader lists images and one writer tags an image, again and again; the
longest that either waited is how long the tables were locked for it. What it prints is measured.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory

from imageapi.database.engine import Database
from imageapi.database.migration import find_scripts, migrate
from imageapi.embedded_postgres.client import run_embedded_server

EXAMPLE = Path(__file__).parent.parent / "examples" / "untagged.json"
ALBUMS = 1000

READ = "SELECT count(*) FROM (SELECT 1 FROM images WHERE album_id = 'album-1' LIMIT 25) AS page"
WRITE = (
    "WITH raised AS (UPDATE albums SET version = version + 1 WHERE album_id = 'album-1')"
    " UPDATE images SET tags = CASE WHEN tags = '{}' THEN ARRAY['attic'] ELSE '{}' END"
    " WHERE album_id = 'album-1' AND public_id ="
    " (SELECT public_id FROM images WHERE album_id = 'album-1' ORDER BY public_id LIMIT 1)"
)


def revisions() -> list[str]:
    """Every migration, the first one first."""
    config = Config()
    config.set_main_option("script_location", str(find_scripts()))
    walked = ScriptDirectory.from_config(config).walk_revisions()
    return [script.revision for script in walked][::-1]


async def fill(connection: "asyncpg.Connection[asyncpg.Record]", images: int) -> None:
    """Albums and images as the first revision has them, every third one tagged."""
    record = EXAMPLE.read_text()[1:-1]
    await connection.execute(
        "INSERT INTO albums SELECT 'album-' || n, 1, '' FROM generate_series(1, $1) AS n", ALBUMS
    )
    await connection.execute(
        "INSERT INTO images SELECT 'album-' || (1 + n % $2), gen_random_uuid(),"
        " timestamptz '2020-01-01' + n * interval '1 second', 1,"
        " CASE WHEN n % 3 = 0 THEN ARRAY['kitchen'] ELSE '{}' END, $3::text::json"
        " FROM generate_series(1, $1::int) AS n",
        images,
        ALBUMS,
        record,
        timeout=3600,
    )
    await connection.execute("VACUUM ANALYZE", timeout=3600)


async def longest_wait(dsn: str, statement: str) -> float:
    """Asks until cancelled; how long the longest answer took, in seconds."""
    connection = await asyncpg.connect(dsn)
    longest = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            started = time.perf_counter()
            try:
                await asyncio.shield(asked := asyncio.ensure_future(connection.execute(statement)))
            except asyncio.CancelledError:
                await asked
                raise
            finally:
                longest = max(longest, time.perf_counter() - started)
            await asyncio.sleep(0.005)
    await connection.close()
    return longest


async def measured(database: Database, dsn: str, revision: str) -> tuple[float, float, float]:
    """Seconds that the migration took, that a reader waited, and a writer."""
    asking = [asyncio.create_task(longest_wait(dsn, each)) for each in (READ, WRITE)]
    await asyncio.sleep(0.5)
    started = time.perf_counter()
    await migrate(database, revision)
    took = time.perf_counter() - started
    await asyncio.sleep(0.5)
    for each in asking:
        each.cancel()
    reader, writer = await asyncio.gather(*asking)
    return took, reader, writer


async def main(images: int) -> None:
    """Fill, migrate, tell."""
    with tempfile.TemporaryDirectory() as folder, run_embedded_server(Path(folder)) as dsn:
        database = Database(dsn)
        first, *further = revisions()
        await migrate(database, first)
        connection = await asyncpg.connect(dsn)
        started = time.perf_counter()
        await fill(connection, images)
        print(f"{images:,} images in {ALBUMS:,} albums after {time.perf_counter() - started:.0f} s")
        for revision in further:
            took, reader, writer = await measured(database, dsn, revision)
            waited = f"a reader waited {reader:.2f} s, a writer {writer:.2f} s"
            print(f"{revision}: {took:.2f} s; {waited}", flush=True)
        await connection.close()
        await database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Every migration on a filled database.")
    parser.add_argument("--images", type=int, default=1_000_000)
    sys.exit(asyncio.run(main(parser.parse_args().images)))
