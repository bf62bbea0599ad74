"""The clients of one embedded server: each holds one open connection to the supervisor.

The system closes a connection when its process ends, however it ends. So the supervisor never
counts a client that no longer exists.

The protocol must not change, because a client and a supervisor can be of different versions:

- The supervisor sends one line: `ready`, a space and the folder of the sockets; or `error`, a space
  and the reason. A server that recovers from a crash can take long to send it.
- A client sends nothing. To disconnect it closes its side for writing, then reads until the
  supervisor closes too: at once if other clients remain, else when the server has stopped.
"""

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable
from pathlib import Path

CONTROL_SOCKET = "control"
"""The file name of the supervisor's socket, in the folder of PostgreSQL's own socket."""


class ConnectedClients:
    """The clients of one server; true while at least one is connected."""

    def __init__(self, first_client: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        self._connected: set[socket.socket] = set()
        self._waiting: set[socket.socket] = set()
        self._disconnected: set[socket.socket] = set()
        self._ready_line: bytes | None = None
        self._listener: socket.socket | None = None
        self._wake_when_child_ends()
        self._add(first_client)

    def __bool__(self) -> bool:
        return bool(self._connected)

    def listen(self, socket_folder: Path) -> None:
        """Accept clients on a socket in this folder; replace one that was left there."""
        self._socket_path = socket_folder / CONTROL_SOCKET
        self._socket_path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._socket_path))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._call_when_readable(self._listener, self._accept)

    def stop_listening(self) -> None:
        """Accept no more clients: a new one waits for the lock, then starts its own supervisor."""
        if self._listener is not None:
            self._socket_path.unlink(missing_ok=True)
            self._unregister_and_close(self._listener)
            self._listener = None

    def poll(self, seconds: float) -> None:
        """Accept new clients and remove disconnected ones.

        Return after the first such event, when a child process ends, or after `seconds`.
        """
        for key, _ in self._selector.select(max(seconds, 0.0)):
            key.data()
        if self._connected:
            self._close_disconnected()

    def announce_ready(self, socket_folder: Path) -> None:
        """Send `ready` to all waiting clients, and to new ones until `stop_announcing`."""
        self._ready_line = b"ready " + os.fsencode(socket_folder) + b"\n"
        self._send_to_waiting(self._ready_line)

    def stop_announcing(self) -> None:
        """Let new clients wait until the next `announce_ready`."""
        self._ready_line = None

    def refuse(self, reason: str) -> None:
        """Send `error` and the reason to all waiting clients, and close their connections."""
        refused = set(self._waiting)
        self._send_to_waiting(b"error " + os.fsencode(" ".join(reason.split())) + b"\n")
        for client in refused:
            self._connected.discard(client)
            self._unregister_and_close(client)

    def close(self) -> None:
        """Close the connections of disconnected clients. Call this when the server has stopped.

        The last clients wait for this close: it is how they learn that the server has stopped.
        """
        self._close_disconnected()
        self._selector.close()

    def _wake_when_child_ends(self) -> None:
        """Make `select` return when a child ends: Python writes a byte to a socket on SIGCHLD."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._wakeup_sockets = (reader, writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._call_when_readable(reader, lambda: reader.recv(4096))

    def _call_when_readable(self, readable: socket.socket, callback: Callable[[], object]) -> None:
        self._selector.register(readable, selectors.EVENT_READ, callback)

    def _unregister_and_close(self, registered: socket.socket) -> None:
        self._selector.unregister(registered)
        registered.close()

    def _accept(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):  # the client may have gone already
                self._add(self._listener.accept()[0])

    def _add(self, client: socket.socket) -> None:
        client.setblocking(False)
        self._connected.add(client)
        self._waiting.add(client)
        self._call_when_readable(client, lambda: self._read_from(client))
        if self._ready_line is not None:
            self._send_to_waiting(self._ready_line)

    def _read_from(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if client.recv(4096):  # clients send nothing: ignore it, it is not a disconnect
                return
        self._selector.unregister(client)
        self._connected.discard(client)
        self._waiting.discard(client)
        self._disconnected.add(client)

    def _send_to_waiting(self, line: bytes) -> None:
        for client in self._waiting:
            with contextlib.suppress(OSError):  # `poll` finds out that this client has gone
                client.sendall(line)
        self._waiting.clear()

    def _close_disconnected(self) -> None:
        for client in self._disconnected:
            client.close()
        self._disconnected.clear()
