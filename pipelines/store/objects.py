"""Object stores: opening one by its address, and what goes wrong with it, in our words.

obstore does the work, for S3 and what speaks like it, Google Cloud Storage, Azure, and a store in
memory for tests. Credentials are found where the cloud's own tools find them: in the environment,
or given to the machine. Not here: what is kept in one (`bucket`), or a mirror in one (`archives`).
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from .. import __version__
from ..errors import StorageError
from ..redaction import without_secrets

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
INSTALL = "pip install obstore"
_PIECE_BYTES = 1 << 20
_RETRY: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}  # with back-off
_AGENT = f"imagesets/{__version__}"


def is_address(text: str) -> bool:
    """Return whether a text is the address of an object store."""
    return urlsplit(text).scheme in SCHEMES


def opened(address: str) -> ObjectStore:
    """Open an object store, or what is below a prefix of one; no request is made.

    Args:
        address: `s3://bucket/prefix`, with options behind a question mark, as pyarrow spells them
            (`region`, `endpoint_override`, `scheme`) or as obstore does (`endpoint`, …).

    Raises:
        StorageError: obstore is not installed, or the address names no store.
    """
    if importlib.util.find_spec("obstore") is None:
        raise StorageError(f"{shown(address)} needs obstore. Install it: {INSTALL}")
    import obstore.store
    from obstore.exceptions import BaseError

    url = urlsplit(address)
    options: Any = _translated(dict(parse_qsl(url.query)))
    user, mark, host = url.netloc.rpartition("@")
    if mark:
        options |= _of_user(user)
    # A store of one's own may be http, as that of a test is; the clouds' are not.
    client: Any = {"user_agent": _AGENT, "timeout": "600s", "connect_timeout": "10s"}
    client["allow_http"] = True
    try:
        plain = urlunsplit((url.scheme, host, url.path.rstrip("/"), "", ""))
        return obstore.store.from_url(
            plain, config=options or None, client_options=client, retry_config=_RETRY
        )
    except (BaseError, ValueError, TypeError) as error:
        raise StorageError(f"{shown(address)} can't be opened: {_first_line(error)}") from error


def _of_user(user: str) -> dict[str, str]:
    """Return options for the key and secret, or the word `anonymous`, before a bucket's name."""
    key, colon, secret = user.partition(":")
    if not colon:
        return {"skip_signature": "true"} if key == "anonymous" else {}
    return {"access_key_id": unquote(key), "secret_access_key": unquote(secret)}


def _translated(options: dict[str, str]) -> dict[str, str]:
    """Return options as obstore spells them, where pyarrow spells them otherwise."""
    scheme = options.pop("scheme", "https")
    if endpoint := options.pop("endpoint_override", None):
        options["endpoint"] = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
    for theirs, name in (("access_key", "access_key_id"), ("secret_key", "secret_access_key")):
        if theirs in options:
            options[name] = options.pop(theirs)
    return options


def shown(address: str) -> str:
    """Return the address of a store without what opens it."""
    return without_secrets(urlunsplit(urlsplit(address)._replace(query="")))


def chunks(address: str) -> Iterator[bytes]:
    """Yield the bytes of an object.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it can't be had.
    """
    folder, name = _folder_and_name(address)
    store = opened(folder)
    import obstore

    with errors(shown(address)):
        for piece in obstore.get(store, name).stream(min_chunk_size=_PIECE_BYTES):
            yield bytes(piece)


def glance(address: str) -> tuple[int, int]:
    """Return the length of an object, and when it was modified (ns).

    Raises:
        FileNotFoundError: there is none.
        StorageError: it can't be had.
    """
    folder, name = _folder_and_name(address)
    store = opened(folder)
    import obstore

    with errors(shown(address)):
        found = obstore.head(store, name)
    return found["size"], round(found["last_modified"].timestamp() * 1e9)


def _folder_and_name(address: str) -> tuple[str, str]:
    url = urlsplit(address)
    folder, _, name = url.path.rpartition("/")
    return urlunsplit(url._replace(path=folder)), unquote(name)


@contextlib.contextmanager
def errors(address: str) -> Iterator[None]:
    """Turn what an object store refuses into `StorageError`; what is not there stays that."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError:
        raise
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StorageError(
            f"{address} refuses who asks ({_first_line(error)}). Give credentials as the cloud's "
            "own tools want them, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which may read "
            "and write there."
        ) from error
    except (BaseError, OSError, ValueError) as error:
        raise StorageError(
            f"{address} can't be reached or written to: {_first_line(error)}. Whatever was there "
            "before still is. Try again when it answers."
        ) from error


def _first_line(error: BaseException) -> str:
    return without_secrets(str(error).partition("\n")[0])[:300] or type(error).__name__
