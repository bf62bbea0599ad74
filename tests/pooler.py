"""PgBouncer in transaction mode, before the tests' PostgreSQL, as a process on 127.0.0.1."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

CONFIGURATION = """\
[databases]
{database} = host={host} port={port} dbname={database} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
server_reset_query =
"""


@contextmanager
def pgbouncer(dsn: str, folder: Path) -> Iterator[str]:
    """The address of a PgBouncer with four connections to the database of this address."""
    assert PGBOUNCER is not None
    parts = urlsplit(dsn)
    asked = parse_qs(parts.query)
    database = parts.path.removeprefix("/")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen_port = free.getsockname()[1]
    settings = CONFIGURATION.format(
        database=database,
        host=asked["host"][0],
        port=asked["port"][0],
        user=parts.username,
        listen_port=listen_port,
    )
    (folder / "pgbouncer.ini").write_text(settings)
    command = [PGBOUNCER, "-q", str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:  # it refuses to run as root, and no other sees into the tests' folders
        nobody = ("--reuid=65534", "--regid=65534", "--clear-groups")
        may_look = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        command = ["setpriv", *nobody, *may_look, *command]
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(command, stdout=errors, stderr=errors)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", listen_port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "errors").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"postgresql://{parts.username}@127.0.0.1:{listen_port}/{database}"
    finally:
        process.kill()
        process.wait()
