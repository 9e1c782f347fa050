"""Objects: what lies below a prefix of an object store, and what goes wrong with it in our words.

obstore does the work, for S3 and what speaks like it, Google Cloud Storage, Azure, and a store in
memory for tests. Credentials are found where the cloud's own tools find them: in the environment,
given to the machine, and where boto3 is installed in all places that it knows. Not here: what the
objects are (`bucket`; of a mirror, `pipelines.archives`).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from .. import __version__, advice
from ..errors import Conflict, StorageError
from ..redaction import without_secrets
from . import cache

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
_PIECE_BYTES = 1 << 20
_RETRY: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}  # with back-off
# Large objects take long, and a server that falls silent is given up. A store of one's own may be
# http, as that of a test is; the clouds' are not.
_CLIENT: Any = {
    "user_agent": f"imagesets/{__version__}",
    "connect_timeout": "10s",
    "read_timeout": "120s",
    "timeout": "1day",
    "allow_http": True,
}


def is_address(text: str) -> bool:
    """Return whether a text is the address of an object store."""
    return urlsplit(text).scheme in SCHEMES


def scratch_of(address: str) -> Path:
    """Return the folder, in the user's cache, that belongs to what lies at an address."""
    return cache.folder() / "scratch" / name_of(address)


def name_of(address: str) -> str:
    """Return a name for folders that belong to what lies at an address."""
    return hashlib.sha256(shown(address).rstrip("/").encode()).hexdigest()[:16]


def opened(address: str) -> ObjectStore:
    """Open an object store, or what is below a prefix of one; no request is made.

    Args:
        address: `s3://bucket/prefix`, with options behind a question mark, as pyarrow spells them
            (`region`, `endpoint_override`, `scheme`) or as obstore does (`endpoint`, …).

    Raises:
        StorageError: obstore is not installed, or the address names no store.
    """
    try:
        import obstore.store
        from obstore.exceptions import BaseError
    except ModuleNotFoundError as error:
        raise StorageError(f"{shown(address)}: {advice.how_to_install(error)}") from error

    url = urlsplit(address)
    if url.fragment:
        raise StorageError(f"{shown(address)} can't be opened: write %23 for a # in a prefix")
    options: Any = _translated(dict(parse_qsl(url.query)))
    user, mark, host = url.netloc.rpartition("@")
    if mark:
        options |= _of_user(user)
    more: dict[str, Any] = {}
    if url.scheme in ("s3", "s3a") and (asked := _asked_of_boto3(options)) is not None:
        more["credential_provider"] = asked
    endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL") or "https://"
    if url.scheme in ("s3", "s3a") and not endpoint.startswith(("http://", "https://")):
        raise StorageError(
            f"{shown(address)} can't be opened: AWS_ENDPOINT_URL is no address that begins with "
            "https:// or http://"
        )
    try:
        plain = urlunsplit((url.scheme, host, url.path.rstrip("/"), "", ""))
        return obstore.store.from_url(
            plain, config=options or None, client_options=_CLIENT, retry_config=_RETRY, **more
        )
    except (BaseError, ValueError, TypeError) as error:
        raise StorageError(f"{shown(address)} can't be opened: {_first_line(error)}") from error


def _of_user(user: str) -> dict[str, str]:
    """Return options for the key and secret, or the word `anonymous`, before a bucket's name."""
    key, colon, secret = user.partition(":")
    if not colon:
        return {"skip_signature": "true"} if key == "anonymous" else {}
    return {"access_key_id": unquote(key), "secret_access_key": unquote(secret)}


def _asked_of_boto3(options: dict[str, str]) -> Any:
    """Return what asks boto3 for credentials; nothing where they are given, or it has none."""
    given = {"access_key_id", "skip_signature"} & {*options} or os.environ.get("AWS_ACCESS_KEY_ID")
    if given or importlib.util.find_spec("boto3") is None:
        return None
    from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except ValueError:
        return None
    except BotoCoreError as error:  # as of a profile that is not there
        raise StorageError(f"boto3 can't look for credentials: {error}") from error


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


@dataclass(frozen=True, slots=True)
class Objects:
    """What lies below a prefix; paths are relative to it.

    url: what people call the prefix; without secrets.
    store: obstore's, opened at the prefix.
    """

    url: str
    store: ObjectStore

    @classmethod
    def at(cls, address: str) -> Objects:
        """Return what lies below an address; no request is made.

        Raises:
            StorageError: obstore is not installed, or the address names no store.
        """
        return cls(shown(address).rstrip("/"), opened(address))

    def address(self, path: str) -> str:
        """Return the URL of an object."""
        return f"{self.url}/{path}".rstrip("/")

    def small(self, path: str) -> tuple[bytes, ObjectMeta] | tuple[None, None]:
        """Return what an object holds, and what the store says of it; nothing without one."""
        import obstore

        try:
            with errors(self.address(path)):
                found = obstore.get(self.store, path)
                return bytes(found.bytes()), found.meta
        except FileNotFoundError:
            return None, None

    def replace(self, path: str, before: ObjectMeta | None, content: bytes) -> None:
        """Write an object where the one before is still there, or there is still none.

        Raises:
            Conflict: there is another one.
            StorageError: the store can't be written to, or not under a condition.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        mode: Any = "create"
        if before is not None:
            versions = {"e_tag": before["e_tag"], "version": before["version"]}
            mode = {name: value for name, value in versions.items() if value is not None}
        writer = {"writer": secrets.token_hex(8)}
        with errors(self.address(path)):
            try:
                obstore.put(self.store, path, content, mode=mode, attributes=writer)
            except (PreconditionError, AlreadyExistsError) as error:
                # An answer that was lost is asked for again, and then our own write is in the way.
                if self._writer(path) != writer:
                    raise Conflict(
                        f"{self.address(path)} was written by somebody else meanwhile, so it is "
                        "left as it is."
                    ) from error
            except FileNotFoundError as error:
                raise _no_bucket(self.address(path)) from error
            except NotSupportedError as error:
                raise StorageError(
                    f"{self.url} can't write under a condition (If-Match), which keeps writers "
                    "from overwriting each other. Use a store that can."
                ) from error

    def _writer(self, path: str) -> dict[str, str]:
        import obstore

        try:
            said: Any = obstore.get(self.store, path).attributes
        except FileNotFoundError:
            return {}
        return {name: value for name, value in said.items() if name == "writer"}

    def head(self, path: str) -> ObjectMeta:
        """Return what the store says of an object.

        Raises:
            FileNotFoundError: there is none.
        """
        import obstore

        with errors(self.address(path)):
            return obstore.head(self.store, path)

    def below(self, prefix: str) -> Iterator[tuple[str, ObjectMeta]]:
        """Yield path → what the store says, of all objects below a prefix, in order."""
        import obstore

        with errors(self.address(prefix)):
            found = [one for page in obstore.list(self.store, prefix) for one in page]
        yield from sorted((one["path"], one) for one in found)

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of an object.

        Raises:
            FileNotFoundError: there is none.
        """
        import obstore

        with errors(self.address(path)):
            for piece in obstore.get(self.store, path).stream(min_chunk_size=_PIECE_BYTES):
                yield bytes(piece)

    def send(self, path: str, content: Path | bytes) -> None:
        """Write an object, whatever was there; nobody sees it before all of it is there."""
        import obstore

        with errors(self.address(path)):
            try:
                obstore.put(self.store, path, content)
            except FileNotFoundError as error:
                if isinstance(content, Path) and not content.exists():
                    raise
                raise _no_bucket(self.address(path)) from error

    def copy(self, path: str, goal: str) -> None:
        """Let the store copy an object by itself."""
        import obstore

        with errors(self.address(goal)):
            obstore.copy(self.store, path, goal)

    def forget(self, path: str) -> None:
        """Remove an object, if it is there."""
        import obstore

        with contextlib.suppress(FileNotFoundError), errors(self.address(path)):
            obstore.delete(self.store, path)


def of(address: str) -> tuple[Objects, str]:
    """Return the objects beside one, and its name; no request is made.

    Raises:
        StorageError: obstore is not installed, or the address names no store.
    """
    url = urlsplit(address)
    folder, _, name = url.path.rpartition("/")
    return Objects.at(urlunsplit(url._replace(path=folder))), unquote(name)


@contextlib.contextmanager
def errors(address: str) -> Iterator[None]:
    """Turn what an object store refuses into `StorageError`; what is not there stays that."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    _refuse_after_a_fork(address)
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError, ValueError) as error:
        said = _first_line(error)
        if _NOT_FOUND in said:  # where something is looked for, and not fetched
            raise _no_bucket(address) from error
        refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if refused or _NO_CREDENTIALS in said:
            raise StorageError(
                f"{address} can't be had without credentials, or not with those that were found: "
                f"{said}. Give such as may read and write there, as the cloud's own tools want "
                "them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for example. "
                "AWS_SKIP_SIGNATURE=true reads what is public."
            ) from error
        raise StorageError(
            f"{address} can't be reached, read or written: {said}. Whatever was there before still "
            "is. Try again when it answers."
        ) from error


_NO_CREDENTIALS = "169.254.169.254"  # where a machine in the cloud is told its own
_NOT_FOUND = "404 Not Found"


@functools.cache
def _first_to_ask() -> int:
    return os.getpid()  # what is forked off later knows this, too


def _refuse_after_a_fork(address: str) -> None:
    """Refuse what would wait for ever: obstore's threads are those of the process before a fork."""
    if _first_to_ask() != os.getpid():
        raise StorageError(
            f"{address} can't be read in a process that was forked off one that read there. Start "
            "it by spawn or forkserver (`multiprocessing_context` of a DataLoader), or read before "
            "the fork what is needed after it."
        )


def _no_bucket(address: str) -> StorageError:
    return StorageError(
        f"{address} can't be had: there is no such bucket. Create it, or mend its name."
    )


def _first_line(error: BaseException) -> str:
    line = str(error).partition("\n")[0].partition(": <")[0]  # without the XML of an answer
    return without_secrets(line)[:300] or type(error).__name__
