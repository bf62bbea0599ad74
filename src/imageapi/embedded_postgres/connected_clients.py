"""Who uses the embedded server at the moment: one open connection to the supervisor each.

The system closes a connection when its process ends, however that ends, so nobody is counted
who is not there. A user is told one line, `ready` and the folder of the sockets, or `error` and
why not. It leaves by closing its side for writing, and reads until the supervisor closes too:
at once where others remain, or when the server has stopped.
"""

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable
from pathlib import Path

CONTROL_SOCKET = "control"
"""The name of the supervisor's socket, beside PostgreSQL's own."""


class ConnectedClients:
    """The users of one server; true while there are any."""

    def __init__(self, first: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        self._present: set[socket.socket] = set()
        self._waiting: set[socket.socket] = set()
        self._leaving: set[socket.socket] = set()
        self._ready_line: bytes | None = None
        self._listener: socket.socket | None = None
        self._wake_on_child()
        self._add(first)

    def __bool__(self) -> bool:
        return bool(self._present)

    def listen(self, sockets: Path) -> None:
        """Lets others join by a socket in this folder; one left over there is replaced."""
        self._socket_path = sockets / CONTROL_SOCKET
        self._socket_path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._socket_path))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._watch(self._listener, self._accept)

    def stop_listening(self) -> None:
        """Lets nobody in any more: who comes now starts a server of its own after this one."""
        if self._listener is not None:
            self._socket_path.unlink(missing_ok=True)
            self._forget(self._listener)
            self._listener = None

    def poll(self, seconds: float) -> None:
        """Lets users in and out, for so long, or until something happened or a child ended."""
        for key, _ in self._selector.select(max(seconds, 0.0)):
            key.data()
        if self._present:
            self._dismiss()

    def announce_ready(self, sockets: Path) -> None:
        """Tells all who wait, and all who come until `hush`, that the server is ready."""
        self._ready_line = b"ready " + os.fsencode(sockets) + b"\n"
        self._send_to_waiting(self._ready_line)

    def stop_announcing(self) -> None:
        """Has those who come wait again."""
        self._ready_line = None

    def refuse(self, reason: str) -> None:
        """Sends all who wait away."""
        refused = set(self._waiting)
        self._send_to_waiting(b"error " + os.fsencode(" ".join(reason.split())) + b"\n")
        for user in refused:
            self._present.discard(user)
            self._forget(user)

    def close(self) -> None:
        """Lets go of everybody: those who left last learn by it that the server has stopped."""
        self._dismiss()
        self._selector.close()

    def _wake_on_child(self) -> None:
        """A child's end makes the selector return: its signal writes a byte into a socket."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._wakers = (reader, writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._watch(reader, lambda: reader.recv(4096))

    def _watch(self, what: socket.socket, then: Callable[[], object]) -> None:
        self._selector.register(what, selectors.EVENT_READ, then)

    def _forget(self, what: socket.socket) -> None:
        self._selector.unregister(what)
        what.close()

    def _accept(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):  # it may have gone already
                self._add(self._listener.accept()[0])

    def _add(self, user: socket.socket) -> None:
        user.setblocking(False)
        self._present.add(user)
        self._waiting.add(user)
        self._watch(user, lambda: self._read_from(user))
        if self._ready_line is not None:
            self._send_to_waiting(self._ready_line)

    def _read_from(self, user: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if user.recv(4096):  # users have nothing to say; whatever it is, it is no leave
                return
        self._selector.unregister(user)
        self._present.discard(user)
        self._waiting.discard(user)
        self._leaving.add(user)

    def _send_to_waiting(self, line: bytes) -> None:
        for user in self._waiting:
            with contextlib.suppress(OSError):  # a user that went shows as such in `pump`
                user.sendall(line)
        self._waiting.clear()

    def _dismiss(self) -> None:
        for user in self._leaving:
            user.close()
        self._leaving.clear()
