"""A drill: run every migration on a filled database; measure how long it blocks other sessions.

    python scripts/drill_migrations.py [--images 1000000]

It uses the embedded database of a temporary folder, filled after the first revision. While each
migration runs, one reader lists images and one writer tags an image, in a loop. The longest wait of
either is how long the tables were locked for it. All printed figures are measured.
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


def list_revisions() -> list[str]:
    """Return the ids of all migrations, the first one first."""
    config = Config()
    config.set_main_option("script_location", str(find_scripts()))
    newest_first = ScriptDirectory.from_config(config).walk_revisions()
    return [script.revision for script in newest_first][::-1]


async def fill(connection: "asyncpg.Connection[asyncpg.Record]", images: int) -> None:
    """Insert albums and images into the tables of the first revision; tag every third image."""
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


async def measure_longest_wait(dsn: str, statement: str) -> float:
    """Execute a statement in a loop until cancelled; return the longest execution in seconds."""
    connection = await asyncpg.connect(dsn)
    longest_seconds = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            started = time.perf_counter()
            try:
                execution = asyncio.ensure_future(connection.execute(statement))
                await asyncio.shield(execution)
            except asyncio.CancelledError:
                await execution
                raise
            finally:
                longest_seconds = max(longest_seconds, time.perf_counter() - started)
            await asyncio.sleep(0.005)
    await connection.close()
    return longest_seconds


async def measure_migration(
    database: Database, dsn: str, revision: str
) -> tuple[float, float, float]:
    """Migrate; return the seconds it took, and the longest waits of the reader and the writer."""
    waits = [asyncio.create_task(measure_longest_wait(dsn, sql)) for sql in (READ, WRITE)]
    await asyncio.sleep(0.5)
    started = time.perf_counter()
    await migrate(database, revision)
    seconds = time.perf_counter() - started
    await asyncio.sleep(0.5)
    for wait in waits:
        wait.cancel()
    reader, writer = await asyncio.gather(*waits)
    return seconds, reader, writer


async def main(images: int) -> None:
    """Fill the database, then run and measure each further migration."""
    with tempfile.TemporaryDirectory() as folder, run_embedded_server(Path(folder)) as dsn:
        database = Database(dsn)
        first, *others = list_revisions()
        await migrate(database, first)
        connection = await asyncpg.connect(dsn)
        started = time.perf_counter()
        await fill(connection, images)
        print(f"{images:,} images in {ALBUMS:,} albums after {time.perf_counter() - started:.0f} s")
        for revision in others:
            seconds, reader, writer = await measure_migration(database, dsn, revision)
            waits = f"a reader waited {reader:.2f} s, a writer {writer:.2f} s"
            print(f"{revision}: {seconds:.2f} s; {waits}", flush=True)
        await connection.close()
        await database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run every migration on a filled database.")
    parser.add_argument("--images", type=int, default=1_000_000)
    sys.exit(asyncio.run(main(parser.parse_args().images)))
