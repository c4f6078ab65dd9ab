"""A real HTTP server on loopback that serves what it is told to, and misbehaves as it is told to."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 8192


@dataclass(frozen=True)
class Answer:
    """How one request is answered; the default is what a good server does.

    Attributes:
        status: sent instead of the file, with `data` as the body.
        headers: sent besides.
        data: other content than the file's.
        ranges: whether Range is understood.
        cut: body bytes after which the connection is closed.
        stall: seconds of silence before it is.
        length: a Content-Length other than the true one; -1 for none at all.
        chunked: sent in chunks, without Content-Length.
        pause: seconds between pieces of 8 KiB.
        shift: added to where a partial answer begins.
    """

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    data: bytes | None = None
    ranges: bool = True
    cut: int | None = None
    stall: float = 0.0
    length: int | None = None
    chunked: bool = False
    pause: float = 0.0
    shift: int = 0


GOOD = Answer()


def redirect(to: str, status: int = 302) -> Answer:
    return Answer(status=status, headers=(("Location", to),))


@dataclass
class Site:
    """What is served.

    Attributes:
        files: path -> content.
        answers: path -> how its next requests are answered; the last one stays if it is alone in `always`.
        always: path -> how all its requests are answered when `answers` is used up.
        log: (path, Range header or None) of each request.
        sent: bytes of bodies that were sent.
    """

    base: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    always: dict[str, Answer] = field(default_factory=dict)
    log: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0

    def requests(self, path: str) -> list[str | None]:
        """The Range headers of the requests for a path."""
        return [sent for asked, sent in self.log if asked == path]

    def next_answer(self, path: str) -> Answer:
        waiting = self.answers.get(path)
        return waiting.pop(0) if waiting else self.always.get(path, GOOD)


@contextlib.contextmanager
def serving(encryption: ssl.SSLContext | None = None) -> Iterator[Site]:
    """Runs a server until the block is left."""
    site = Site()

    class Handler(_Handler):
        pass

    Handler.site = site
    with _Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        site.base = f"http://127.0.0.1:{server.server_port}"
        if encryption is not None:
            server.socket = encryption.wrap_socket(server.socket, server_side=True)
            site.base = f"https://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # connections broken on purpose


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        site, path = self.site, self.path
        site.log.append((path, self.headers.get("Range")))
        answer = site.next_answer(path)
        data = answer.data if answer.data is not None else site.files.get(path)
        if answer.status is not None or data is None:
            self.send_response(answer.status or 404)
            data = b"" if answer.status is None else answer.data or b""
            self.send_header("Content-Length", str(len(data)))
            for name, value in answer.headers:
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self._send_body(answer, data)
            return
        with contextlib.suppress(ConnectionError):  # the client may have seen enough
            self._send(answer, data)

    def log_message(self, *_: object) -> None:
        pass

    def _send_body(self, answer: Answer, body: bytes) -> None:
        for place in range(0, len(body), PIECE):
            piece = body[place : place + PIECE]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.chunked else piece)
            self.site.sent += len(piece)
            if answer.pause:
                self.wfile.flush()
                time.sleep(answer.pause)

    def _send(self, answer: Answer, data: bytes) -> None:
        start, wanted = 0, self.headers.get("Range")
        if wanted and answer.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = max(0, start + answer.shift)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:]
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.length != -1:
            self.send_header("Content-Length", str(len(body) if answer.length is None else answer.length))
        else:
            self.close_connection = True
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        end = len(body) if answer.cut is None else min(answer.cut, len(body))
        self._send_body(answer, body[:end])
        if end < len(body) or answer.length not in (None, -1):
            self.wfile.flush()
            time.sleep(answer.stall)
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        elif answer.chunked:
            self.wfile.write(b"0\r\n\r\n")
