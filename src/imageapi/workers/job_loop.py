"""The side of a child: it does the jobs that `child.Child` asks for.

Each job is a JSON object behind its length in four bytes, followed by as many bytes as its `blob`
says; so is each answer. A child ends with its standard input, so none outlives its parent.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

Job = dict[str, Any]
JobResult = tuple[dict[str, object], bytes]


def run_job_loop(do: Callable[[Job, bytes], JobResult]) -> None:
    """Do the jobs that come in, one after the other, until no more can come."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints is taken for an answer
    while length := int.from_bytes(sys.stdin.buffer.read(4)):
        job = json.loads(sys.stdin.buffer.read(length))
        header, blob = do(job, sys.stdin.buffer.read(job["blob"]))
        answers.write(frame_message(header, blob))
        answers.flush()


def frame_message(header: dict[str, Any], blob: bytes) -> bytes:
    """What goes through the pipe, either way."""
    text = json.dumps(header | {"blob": len(blob)}).encode()
    return len(text).to_bytes(4) + text + blob
