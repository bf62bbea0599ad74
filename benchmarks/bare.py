"""The upper limit: a bare ASGI application that returns constant bytes, run by uvicorn.

It looks up the bytes by the path and does nothing else.
"""

import json
import os
import socket
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send

_RESPONSES = {
    path: (
        [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-length", str(len(text.encode())).encode()),
        ],
        text.encode(),
    )
    for path, text in json.loads(Path(os.environ["BENCHMARK_RESPONSES"]).read_text()).items()
}


async def app(scope: Scope, _: Receive, send: Send) -> None:
    """Send the stored response of the path."""
    headers, body = _RESPONSES[scope["path"]]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve on a free port."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"bare listens on http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
    )
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main()
