"""Serving pages on this machine: a port that is free, who may ask, and a browser that shows them.

    GET, HEAD    answered by what a `Site` says of the path; anything else is refused

A page of some other site, which happens to be open in the same browser, may send requests here,
too. So a request must name this machine in its `Host`: by its address, or as `localhost`. A name of
other people's, which they let point here, is refused (DNS rebinding). Not here: what there is to
see (`command_line.browsing`), or the Dagster UI, which brings its own server.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import socket
import sys
import webbrowser
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from pipelines.errors import ImagesetsError

_IDLE_S = 60  # that a browser may keep a connection open and ask for nothing
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent for a path.

    content: the bytes themselves, or the file that holds them.
    type: of the content, as HTTP names it.
    headers: besides those that every answer has.
    """

    content: bytes | Path
    type: str
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)


class Site(Protocol):
    """What knows the answers."""

    def answer(self, path: str) -> Answer:
        """Return what is at a path, which begins with a slash; its escapes are resolved."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "imagesets", ""
    timeout = _IDLE_S
    server: _Server

    def do_GET(self) -> None:
        if not self._names_us():
            wrong = "This server answers for this machine alone: ask for 127.0.0.1 or localhost."
            self._send(Answer(wrong.encode(), "text/plain", HTTPStatus.MISDIRECTED_REQUEST))
            return
        try:
            answer = self.server.site.answer(unquote(urlsplit(self.path).path))
        except (ImagesetsError, OSError) as error:
            failed = HTTPStatus.INTERNAL_SERVER_ERROR
            answer = Answer(f"{error}".encode(), "text/plain; charset=utf-8", failed)
        self._send(answer)

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request; what else came with it is not read."""
        self.close_connection = True
        refused, headers = HTTPStatus(code), {"Connection": "close"}
        if refused == HTTPStatus.NOT_IMPLEMENTED:  # a method
            refused, headers["Allow"] = HTTPStatus.METHOD_NOT_ALLOWED, "GET, HEAD"
        self._send(Answer(f"{refused.phrase}.".encode(), "text/plain", refused, headers))

    def _names_us(self) -> bool:
        host = self.headers.get_all("Host") or []
        try:
            name = urlsplit(f"//{host[0]}").hostname if len(host) == 1 else None
            if name in {"localhost", self.server.host}:
                return True
            ipaddress.ip_address(name or "")
        except ValueError:
            return False
        return True

    def _send(self, answer: Answer) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(ConnectionError, TimeoutError):
            content, size = answer.content, 0
            file = None
            if isinstance(content, Path):
                file = stack.enter_context(content.open("rb"))
                size = os.fstat(file.fileno()).st_size
            else:
                size = len(content)
            self.send_response(answer.status)
            headers = {"Content-Type": answer.type, "Content-Length": str(size)}
            for name, value in {**_HEADERS, **headers, **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if file:
                shutil.copyfileobj(file, self.wfile)
            elif isinstance(content, bytes):
                self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: the page tells whoever asked."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = os.name == "posix"

    def __init__(self, site: Site, host: str, port: int) -> None:
        self.site, self.host = site, host
        self.address_family = _family(host)
        super().__init__((host, port), _Handler)

    def handle_error(self, *_: object) -> None:
        """Say nothing of browsers that hang up; any other error is one of ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            raise  # noqa: PLE0704 # it is being handled


def server(site: Site, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server of a site, which listens already."""
    return _Server(site, host, port)


def check_port(what: str, host: str, port: int, option: str = "--port") -> None:
    """Refuse an address on which nothing can be served.

    Args:
        what: shall be served, as a sentence begins.
        host: the address.
        port: the port of it.
        option: what chooses another one.
    """
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except (OSError, OverflowError) as error:
        why = str(getattr(error, "strerror", None) or error).partition(" (")[0].rstrip(".")
        raise ImagesetsError(
            f"{what} can't be served on {host}, port {port}: {why}. Is it running already? Choose "
            f"another port with {option}."
        ) from error


def address(host: str, port: int) -> str:
    """Return the address of what is served, as browsers take it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def open_page(page: str) -> None:
    """Open a page where somebody sits here who has a browser that is no terminal's."""
    has_display = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ}
    if sys.stdout.isatty() and has_display and "SSH_CONNECTION" not in os.environ:
        webbrowser.open(page)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
