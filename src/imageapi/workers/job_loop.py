"""The worker's side: runs the jobs that `process.WorkerProcess` sends.

A job is a JSON object, preceded by its length in four bytes and followed by as many bytes as its
``blob`` says. A result has the same form. A worker ends when its standard input is closed, so none
outlives its parent.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

Job = dict[str, Any]
JobResult = tuple[dict[str, object], bytes]


def run_job_loop(run_job: Callable[[Job, bytes], JobResult]) -> None:
    """Run jobs one after the other, until standard input is closed."""
    results = os.fdopen(os.dup(1), "wb")
    # From here on standard output is standard error: what a library prints must not be read as a
    # result.
    os.dup2(2, 1)
    while length := int.from_bytes(sys.stdin.buffer.read(4)):
        job = json.loads(sys.stdin.buffer.read(length))
        header, blob = run_job(job, sys.stdin.buffer.read(job["blob"]))
        results.write(frame_message(header, blob))
        results.flush()


def frame_message(header: dict[str, Any], blob: bytes) -> bytes:
    """Return the bytes of a job or a result, as they are sent through the pipe."""
    text = json.dumps(header | {"blob": len(blob)}).encode()
    return len(text).to_bytes(4) + text + blob
