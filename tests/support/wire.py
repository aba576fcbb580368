"""A wire to a server that a test can cut, hold up, or break in the middle of a reply. Knows PostgreSQL's protocol only as far
as to tell when a reply is complete."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

_CHUNK: Final = 65_536
_POLL_SECONDS: Final = 0.005
_READY: Final = (b"Z\0\0\0\5I", b"Z\0\0\0\5T", b"Z\0\0\0\5E")  # ReadyForQuery: everything asked so far is done


class Wire:
    """Between clients (``url``) and one PostgreSQL. Every mode holds from the call on, for connections old and new.

    ``cut`` ends what is open; new connections pass. ``cut_at(n)`` cuts at the n-th request from then on, undone or done. ``cut_reply_to(b"text")`` lets the next request with this text through,
    waits until the server has done it, and cuts instead of handing on the reply. ``truncate(n)`` cuts after n more bytes of
    replies. ``delay(s)`` holds every reply up. ``hold`` is a half-open wire: nothing goes through and nothing is closed, also
    for new connections (a black hole). ``refuse`` closes new connections at once. ``mend`` ends all of this.
    """

    def __init__(self, url: str) -> None:
        given = conninfo_to_dict(url)
        host, port = str(given["host"]), str(given.get("port", 5432))
        self._target = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        path = urlsplit(url).path
        self.url: Final = f"postgresql://{given['user']}@127.0.0.1:{self._listener.getsockname()[1]}{path}"
        self.cuts = 0
        self.refused = 0
        self.asked = 0
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._is_held = self._is_refusing = False
        self._needle: bytes | None = None
        self._is_cut_for_good = False
        self._after: Callable[[], object] = lambda: None
        self._cut_at: tuple[int, bool] | None = None
        self._bytes_left: int | None = None
        self._delay_seconds = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Close every connection now; how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            self._close(pair)
        return len(pairs)

    def cut_reply_to(self, text: bytes, *, for_good: bool = False, after: Callable[[], object] = lambda: None) -> None:
        """The next request with ``text`` is done, and its reply is lost, ``after`` something else was done as well;
        ``for_good``: then nobody comes through any more."""
        self._needle, self._is_cut_for_good, self._after = text, for_good, after

    def cut_at(self, nth: int, *, is_done: bool) -> None:
        """The n-th request from now on, the first is 1, is lost: before the server saw it, or (``is_done``) with its reply."""
        self.asked, self._cut_at = 0, (nth, is_done)

    def truncate(self, bytes_left: int) -> None:
        """Replies end after so many more bytes, with a cut."""
        self._bytes_left = bytes_left

    def delay(self, seconds: float) -> None:
        """Each reply comes so much later."""
        self._delay_seconds = seconds

    def hold(self) -> None:
        """Nothing goes through any more, and nobody is told."""
        self._is_held = True

    def refuse(self) -> None:
        """New connections are closed at once."""
        self._is_refusing = True

    def mend(self) -> None:
        """A wire as it should be."""
        self._is_held = self._is_refusing = False
        self._cut_at = None
        self._needle, self._bytes_left, self._delay_seconds = None, None, 0.0

    def close(self) -> None:
        """No wire."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_refusing:
                    self.refused += 1
                    client.close()
                    continue
                server = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
                try:
                    server.connect(self._target)
                except OSError:
                    client.close()
                    continue
                pair = (client, server)
                with self._lock:
                    self._pairs.add(pair)
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Until one side ends, or the wire is cut."""
        with suppress(OSError, ValueError):
            while True:
                ready, _, _ = select.select([client, server], [], [], _POLL_SECONDS)
                if self._is_held:
                    time.sleep(_POLL_SECONDS)
                    continue
                if client in ready and not self._ask(client, server):
                    break
                if server in ready and not self._answer(client, server):
                    break
        with self._lock:
            self._pairs.discard((client, server))
        self._close((client, server))

    def _ask(self, client: socket.socket, server: socket.socket) -> bool:
        asked = client.recv(_CHUNK)
        with self._lock:
            self.asked += bool(asked)
            nth, is_done = self._cut_at or (0, False)
            is_hit = bool(asked) and self.asked == nth
        if is_hit and not is_done:
            self.cuts += 1
            return False
        server.sendall(asked)
        if not is_hit and (self._needle is None or self._needle not in asked):
            return bool(asked)
        self._needle = None
        reply = b""
        while not reply.endswith(_READY) and (more := server.recv(_CHUNK)):
            reply += more
        self._after()
        self._is_refusing = self._is_refusing or self._is_cut_for_good
        self.cuts += 1
        return False

    def _answer(self, client: socket.socket, server: socket.socket) -> bool:
        reply = server.recv(_CHUNK)
        if self._delay_seconds:
            time.sleep(self._delay_seconds)
        if self._bytes_left is not None:
            reply = reply[: self._bytes_left]
            self._bytes_left -= len(reply)
        client.sendall(reply)
        if self._bytes_left == 0:
            self._bytes_left = None
            self.cuts += 1
            return False
        return bool(reply)

    @staticmethod
    def _close(pair: tuple[socket.socket, socket.socket]) -> None:
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def a_wire(url: str) -> Iterator[Wire]:
    """A wire to the server of ``url``, for as long as the block."""
    wire = Wire(url)
    try:
        yield wire
    finally:
        wire.close()
