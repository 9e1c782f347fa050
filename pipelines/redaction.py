"""Addresses without what opens them: no user, password or token is shown, logged or written.

Two things together make that certain. `check` refuses an address in which a secret can't be told
from what stands around it, as a password with a space or a slash: percent-encoded it can be. And
text that holds an address passes through `without_secrets` before it is shown.

Not here: which addresses there are (settings and the catalogue say so), or opening them.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Collection, Iterator
from urllib.parse import quote, unquote, unquote_plus, urlsplit

LONG_ENOUGH = 6  # a shorter word stands in messages by chance

_OPTIONS = ("region", "scheme", "endpoint_override")  # of object stores; they open nothing

_USER = r"(?<=://)(?:[^/\s]*|[^/\s:]*:(?!\d+/)\S*)@"  # passwords with slashes are no URL, but typed
_PLAIN = rf"(?:(?:{'|'.join(_OPTIONS)})=[\w.:/-]*&?)+(?![^\s)'\"])"
_QUERY = rf"\?(?!{_PLAIN})[^\s)'\"]*[^\s)'\",.;:]"  # a colon after it belongs to the sentence

_WORD = r"\w.~!$&*+,;=%-"
_ADDRESS = re.compile(
    rf"[a-z][a-z\d+.-]*://(?:[:{_WORD}]*@)?(?:\[[\da-f:.]+\]|[\w.~-]*)(?::\d+)?"
    rf"(?:/[^\s@?#\"<>\\`\0-\x1f]*)?(?:\?[:/?{_WORD}]*)?",
    re.IGNORECASE,
)


def check(address: str) -> None:
    """Refuse an address in which a user, password or token can't be told from the rest.

    The refusal does not repeat the address.

    Raises:
        ValueError: saying what to do.
    """
    try:
        url = urlsplit(address)
        is_one = bool(_ADDRESS.fullmatch(address)) and (url.port or 0) >= 0
        authority = url.netloc.rpartition("@")[0] + url.query
    except ValueError:  # whose text may repeat a part of the address
        is_one = False
    if not is_one or not authority.isascii():
        raise ValueError(
            "not an address as scheme://user:password@host:port/path. Percent-encode what is "
            "special in a user, a password, a path or a query: %20 for a space, %2F for /, %3A "
            "for :, %40 for @, %23 for #, %3F for ?"
        )


def without_secrets(text: str, *addresses: str) -> str:
    """Return a text whose URLs name no user, no password and no token.

    Whatever a mirror is called, on a screen or in a file, it is called so. Where the text comes
    from elsewhere, as a server's answer, name the addresses that it is about: what opens them is
    taken out of it even where it stands alone.
    """
    for address in addresses:
        text = _cut(text, {found for found in _spelled(address) if len(found) >= LONG_ENOUGH})
    return re.sub(f"{_USER}|{_QUERY}", "", text)


def named(address: str) -> str:
    """Return a whole address without its secrets, however badly it is written."""
    scheme, mark, rest = address.partition("://")
    place, _, query = rest.partition("?")
    if "@" in query:  # of a password or of a token: who knows
        return f"{scheme}{mark}…"
    return f"{scheme}{mark}{place.rpartition('@')[2]}"


def _cut(text: str, secrets: Collection[str]) -> str:
    """Return a text without secrets, nor beginnings of them that a quotation cut short."""
    if not secrets:
        return text
    begins = re.compile("|".join(re.escape(secret[:LONG_ENOUGH]) for secret in secrets))
    kept, at = "", 0
    while found := begins.search(text, at):
        kept += text[at : found.start()] + "…"
        at = found.start() + max(_alike(text[found.start() :], secret) for secret in secrets)
    return kept + text[at:]


def _alike(text: str, secret: str) -> int:
    """Return with how many letters of a secret a text begins."""
    pairs = zip(text, secret, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _spelled(address: str) -> Iterator[str]:
    """Yield what opens an address, in every spelling that an error may have."""
    _, _, rest = address.partition("://")
    user_info = rest.partition("?")[0].rpartition("@")[0]
    for encoding in ("utf-8", "latin-1"):  # as HTTP sends it
        yield base64.b64encode(unquote(user_info).encode(encoding, "replace")).decode()
    parts = [user_info, *user_info.partition(":")[::2]]
    for pair in rest.partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        parts += [] if name in _OPTIONS else [value or name]
    for part in parts:
        plain = unquote(part)
        yield from (part, plain, unquote_plus(part), quote(plain), quote(plain, safe=""))
