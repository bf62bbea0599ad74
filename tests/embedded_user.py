"""A process that uses the embedded server of a data directory until its input ends.

`embedded_user.py DATA_DIR [TIMES]` says `ready URL` and in the end `left`, or `refused REASON`.
"""

import sys
from pathlib import Path

from imageapi.embedded_postgres.client import DataDirectoryError, run_embedded_server


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def use(data_dir: Path) -> None:
    try:
        with run_embedded_server(data_dir) as url:
            say("ready", url)
            sys.stdin.read()
    except DataDirectoryError as error:
        say("refused", str(error))
    else:
        say("left")


for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
    use(Path(sys.argv[1]))
