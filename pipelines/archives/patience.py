"""How long to bear with a server. Not here: asking one (`web`), which takes long to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear with a server.

    connect_s, read_s: until a connection stands; between two pieces of an answer.
    answer_s: until bytes of the file arrive, and between two pieces of it, whatever else the server
        says meanwhile: redirects, headers, a handshake. One that takes longer is left.
    tries: in a row without a single new byte; one only for a host that was out of reach before.
        So often, too, an answer may begin anew what had arrived.
    backoff_s, longest_wait_s: the first pause, doubled each time, and the longest one; a server
        that asks for more (Retry-After), or for as much at every try, is left.
    least_rate: bytes per second; a server below it for `rate_window_s` is left. 0 bears anything.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    answer_s: float = 120.0
    tries: int = 4
    backoff_s: float = 0.5
    longest_wait_s: float = 60.0
    least_rate: float = 100_000.0
    rate_window_s: float = 30.0
