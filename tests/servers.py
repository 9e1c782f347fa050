"""A publisher's server that misbehaves on request, on loopback.

`Server(data, [behaviour, …])` answers the first request with the first behaviour, and so on; the
last one stays. A behaviour is a function that gets the request handler and the file's bytes.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.waiting import within

Behaviour = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        """What GET would answer, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        self.server.methods.append(self.command)
        self.server.requests.append(dict(self.headers.items()))
        self.server.paths.append(self.path)
        number = len(self.server.requests) - 1
        behaviours = self.server.behaviours
        self.close_connection = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            behaviours[min(number, len(behaviours) - 1)](self, self.server.data)

    def log_message(self, *_: Any) -> None:
        pass

    def start(self, status: int, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            self.wfile = io.BytesIO()

    @property
    def asked(self) -> int:
        """The byte that a range request begins at."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, data: bytes, behaviours: list[Behaviour], tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.behaviours = data, behaviours
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.methods: list[str] = []
        self.requests: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.sent_bytes = 0  # told by behaviours that send much

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/"

    def handle_error(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(
    data: bytes, *behaviours: Behaviour, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    server = Server(data, list(behaviours) or [good()], tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def good(etag: str = '"v1"') -> Behaviour:
    """Ranges, If-Range and all: an honest server."""

    def answer(handler: Handler, data: bytes) -> None:
        at = handler.asked
        if at and handler.headers.get("If-Range") not in (None, etag):
            at = 0
        if at >= len(data) and at:
            handler.start(416, 0, Content_Range=f"bytes */{len(data)}")
        elif at:
            span = f"bytes {at}-{len(data) - 1}/{len(data)}"
            handler.start(206, len(data) - at, Content_Range=span, ETag=etag)
            handler.wfile.write(data[at:])
        else:
            handler.start(200, len(data), ETag=etag, Accept_Ranges="bytes")
            handler.wfile.write(data)

    return answer


def folder(root: Path) -> Behaviour:
    """The files of a folder, honestly."""

    def answer(handler: Handler, _data: bytes) -> None:
        path = root / handler.path.lstrip("/")
        if path.is_file():
            good()(handler, path.read_bytes())
        else:
            status(404)(handler, b"")

    return answer


def cut(after: int, etag: str = '"v1"') -> Behaviour:
    """Promise everything that is asked for, and hang up after so many bytes of it."""

    def answer(handler: Handler, data: bytes) -> None:
        at = handler.asked
        if at:
            span = f"bytes {at}-{len(data) - 1}/{len(data)}"
            handler.start(206, len(data) - at, Content_Range=span, ETag=etag)
        else:
            handler.start(200, len(data), ETag=etag)
        handler.wfile.write(data[at : at + after])

    return answer


def reset(after: int) -> Behaviour:
    """Send so many bytes, then reset the connection."""

    def answer(handler: Handler, data: bytes) -> None:
        cut(after)(handler, data)
        handler.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.connection.close()

    return answer


def no_ranges(handler: Handler, data: bytes) -> None:
    """Answer every request with the whole file."""
    handler.start(200, len(data))
    handler.wfile.write(data)


def wrong_range(handler: Handler, data: bytes) -> None:
    """Answer a range request with a range that begins elsewhere."""
    at = max(0, handler.asked - 7)
    handler.start(206, len(data) - at, Content_Range=f"bytes {at}-{len(data) - 1}/{len(data)}")
    handler.wfile.write(data[at:])


def lying_range(handler: Handler, data: bytes) -> None:
    """Say that the range is the one asked for, and send another."""
    at = handler.asked
    span = f"bytes {at}-{len(data) - 1}/{len(data)}"
    handler.start(206, len(data) - at, Content_Range=span)
    handler.wfile.write(data[: len(data) - at])


def changed(etag: str) -> Behaviour:
    """Have another file of the same length under the same name."""

    def answer(handler: Handler, data: bytes) -> None:
        other = data[:10] + bytes(byte ^ 0x55 for byte in data[10:])
        good(etag)(handler, other)

    return answer


def status(code: int, **headers: str) -> Behaviour:
    def answer(handler: Handler, _data: bytes) -> None:
        body = f"<html><title>{code}</title></html>".encode()
        handler.start(code, len(body), **headers)
        handler.wfile.write(body)

    return answer


def no_head(code: int, behaviour: Behaviour) -> Behaviour:
    """Answer GET alone, and refuse HEAD."""

    def answer(handler: Handler, data: bytes) -> None:
        (status(code) if handler.command == "HEAD" else behaviour)(handler, data)

    return answer


def redirect(target: str) -> Behaviour:
    return status(302, Location=target)


def endless_redirect(target: str) -> Behaviour:
    """Lead elsewhere, in an answer whose body goes on for as long as anybody reads it."""

    def answer(handler: Handler, _data: bytes) -> None:
        handler.start(302, Location=target)
        for _ in range(20_000):
            handler.wfile.write(bytes(10_000))
            handler.server.sent_bytes += 10_000

    return answer


def dripping(start: bytes) -> Behaviour:
    """Send this, then a letter at a time: never silent for long, and never at an end."""

    def answer(handler: Handler, _data: bytes) -> None:
        handler.wfile.write(start)
        drip(handler.wfile.write, b"a")

    return answer


def drip(write: Callable[[bytes], object], drop: bytes) -> None:
    """Write the same again and again, for as long as anybody listens, but not for ever."""
    for _ in range(2000):
        write(drop)
        time.sleep(0.02)


def continuing(handler: Handler, _data: bytes) -> None:
    """Ask the client to continue, again and again."""
    drip(handler.wfile.write, b"HTTP/1.1 100 Continue\r\n\r\n")


def dripping_chunk(after: int) -> Behaviour:
    """Send so many bytes of the file as a chunk, and never come to the end of the next one's size.

    What stands after a semicolon there is for nobody.
    """

    def answer(handler: Handler, data: bytes) -> None:
        at = handler.asked
        span = {"Content_Range": f"bytes {at}-{len(data) - 1}/{len(data)}"} if at else {}
        handler.start(206 if at else 200, Transfer_Encoding="chunked", **span)
        if part := data[at : at + after]:
            handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        handler.wfile.write(b"5;")
        drip(handler.wfile.write, b"a")

    return answer


@contextlib.contextmanager
def dripping_handshake() -> Iterator[str]:
    """Give the address of a server that never comes to the end of its part of a TLS handshake."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(10_000)
            connection.sendall(b"\x16\x03\x03\x40\x00")  # 16 KiB of handshake will follow
            drip(connection.sendall, b"a")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def html(title: str, length_is_right: bool = False, chunked: bool = False) -> Behaviour:
    """A web page where a file should be, with 200."""

    def answer(handler: Handler, data: bytes) -> None:
        page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head></html>".encode()
        if length_is_right:
            page = page.ljust(len(data))
        handler.start(200, None if chunked else len(page))
        handler.wfile.write(page)

    return answer


def flipped(handler: Handler, data: bytes) -> None:
    """One bit of the file is another."""
    at = len(data) // 2
    handler.start(200, len(data))
    handler.wfile.write(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def longer(announce: bool) -> Behaviour:
    """Send more than the file has, with or without saying so."""

    def answer(handler: Handler, data: bytes) -> None:
        handler.start(200, len(data) + 1 if announce else None)
        handler.wfile.write(data + b"!")

    return answer


def endless(handler: Handler, data: bytes) -> None:
    """Send zeros after the file, for as long as anybody listens; do not say how many."""
    handler.start(200)
    handler.wfile.write(data)
    for _ in range(100_000):
        handler.wfile.write(bytes(10_000))


def announcing(length: str) -> Behaviour:
    """Say that the file has a length that is no number."""

    def answer(handler: Handler, data: bytes) -> None:
        handler.start(200, Content_Length=length)
        handler.wfile.write(data)

    return answer


def stalled(after: int) -> Behaviour:
    """Send so many bytes, then nothing for longer than anybody waits."""

    def answer(handler: Handler, data: bytes) -> None:
        cut(after)(handler, data)
        handler.wfile.flush()
        time.sleep(within(3))

    return answer


def slow(bytes_per_s: int) -> Behaviour:
    """Send at a steady pace, fifty times a second."""

    def answer(handler: Handler, data: bytes) -> None:
        at = handler.asked
        span = f"bytes {at}-{len(data) - 1}/{len(data)}"
        headers = {"Content_Range": span} if at else {}
        handler.start(206 if at else 200, len(data) - at, **headers)
        step = max(1, bytes_per_s // 50)
        for start in range(at, len(data), step):
            handler.wfile.write(data[start : start + step])
            time.sleep(0.02)

    return answer


def chunked(handler: Handler, data: bytes) -> None:
    """Send in chunks, without saying how long it is."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(data), 1000):
        part = data[start : start + 1000]
        handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def labelled_gzip(handler: Handler, data: bytes) -> None:
    """Serve a .gz as it lies there, and call it gzip-encoded: a common misconfiguration."""
    handler.start(200, len(data), Content_Encoding="gzip")
    handler.wfile.write(data)


def compressed_again(handler: Handler, data: bytes) -> None:
    """Compress on the way, although nobody asked for it."""
    body = gzip.compress(data)
    handler.start(200, len(body), Content_Encoding="gzip")
    handler.wfile.write(body)
