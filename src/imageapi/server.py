"""The HTTP server: one socket, one or more worker processes."""

import gc
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable

import uvicorn
from uvicorn.supervisors import Multiprocess

from imageapi.metrics_folder import share_between_workers

#: How long running requests may take after the signal to stop.
GRACE_SECONDS = 30
_BACKLOG = 2048
#: uvicorn imports these by name in each worker: the application's factory, and the protocol class.
APPLICATION = "imageapi.app:from_environment"
PROTOCOL = "imageapi.http.server_protocol:DocumentedProtocol"


class NotServing(Exception):
    """The service cannot listen, or cannot start; ``str()`` is one line."""


def serve(
    host: str,
    port: int,
    workers: int,
    listening: Callable[[int], object],
    *,
    application: str = APPLICATION,
    protocol: str = PROTOCOL,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Call ``listening`` with the port as soon as clients can connect. Their connections wait in the
    socket's queue until the workers are ready. Raises NotServing. On a signal raises SystemExit(0),
    so that the callers' context managers close what they opened.
    """
    sock = _listen(host, port)
    config = uvicorn.Config(
        application,
        factory=True,
        http=protocol,
        loop="uvloop",
        ws="none",
        workers=workers,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # the application handles them, for its trusted proxies
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=_BACKLOG,
    )
    # uvicorn raises the signal again after it has stopped. With the default handlers that would end
    # this process at once, before the callers have closed what they opened.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    listening(sock.getsockname()[1])
    if workers > 1:
        with share_between_workers():
            Multiprocess(config, sockets=[sock]).run()
        return
    server = uvicorn.Server(config)
    server.run(sockets=[sock])
    if not server.started:
        raise NotServing("the service cannot begin: the lines above say why")


def end_with_parent() -> None:
    """Make this worker process stop, as by SIGTERM, when its parent process has ended.

    A parent that is killed cannot stop its workers. They would keep the port.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()


def exempt_from_garbage_collection() -> None:
    """Exempt the objects that exist now from garbage collection; call it when a worker has started.

    Each pass of the collector would walk all that was imported. That takes 50 to 100 ms, in which
    no request is answered.
    """
    gc.collect()
    gc.freeze()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        raise NotServing(f"cannot listen on {host} port {port}: {error.strerror}") from error
    sock.set_inheritable(True)
    return sock


def _stop(*_: object) -> None:
    raise SystemExit(0)
