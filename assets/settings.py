"""Settings: what a person may choose, from the command line or the environment.

Not here: Dagster, or any default of a dataset (the catalogue). Every setting is an environment
variable, so the Dagster UI and scheduled runs obey it too; what decides the data is an option of
`python -m assets` as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

import platformdirs

from pipelines import redaction, stages
from pipelines.errors import ImagesetsError, did_you_mean
from pipelines.redaction import without_secrets
from pipelines.store import Folder
from pipelines.store.objects import SCHEMES, name_of, scratch_of, shown

if TYPE_CHECKING:
    from pipelines.building import Web
    from pipelines.lineage.openlineage import Target
    from pipelines.plan import Plan
    from pipelines.store import Store

ROOT = Path(__file__).resolve().parent.parent
EXECUTORS = ("in_process", "multiprocess")
LONGEST_NAME_BYTES = 255  # of a file or folder, on Linux and macOS
PAGES_PORT = 8321  # where `browse` serves, unless it is told otherwise: what the UI links to
BUILT_IN_CATALOGUE = Path(__file__).resolve().parent / "catalogue"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person may choose.

    data: folder that everything is made in, or `s3://bucket/prefix`, `gs://…` or `az://…` of an
        object store (IMAGESETS_DATA).
    catalogue: folder of TOML declarations (IMAGESETS_CATALOGUE).
    mirror: folder or URL, laid out `<source>/<file>`, tried first (IMAGESETS_MIRROR).
    offline: never open a connection, but to IMAGESETS_POSTGRES and IMAGESETS_BROKER
        (IMAGESETS_OFFLINE).
    openlineage: file, or URL of an endpoint, for events about what is made (IMAGESETS_OPENLINEAGE).
    options: what exports and tables leave to choose, as `csv_header` (IMAGESETS_CSV_HEADER): those
        of `pipelines.stages.options`; what is left out is as it is by default.
    exports: those that are made where nobody names any, by their names (IMAGESETS_EXPORTS, with
        commas).

    For operators, in the environment alone; none of them decides what is made:

    scratch: where data lie in an object store, the folder of this machine that things are made in
        and fetched to; it may be deleted at any time (IMAGESETS_SCRATCH). By default in the cache.
    home: the folder of Dagster's own records of runs (IMAGESETS_HOME). By default `dagster` in the
        data folder; where data lie in an object store, in the user's folder for applications' data.
    datasets: those that a refresh and automation keep up to date, by their names or their sources'
        (IMAGESETS_DATASETS, with commas); where none is named, those that were ever made here.
    refresh_cron: when the schedule `weekly_refresh` starts, once it is on (IMAGESETS_REFRESH_CRON).
    verify_cron, deep_verify_cron: the same of `weekly_verify` (IMAGESETS_VERIFY_CRON) and
        `monthly_deep_verify` (IMAGESETS_DEEP_VERIFY_CRON).
    refresh_timezone: where these are the time of day, as `Europe/Paris`
        (IMAGESETS_REFRESH_TIMEZONE).
    executor: of runs that no person waits for: `in_process`, or `multiprocess` with a process for
        each step (IMAGESETS_EXECUTOR).
    postgres: `postgresql+psycopg2://…`, where Dagster keeps its records of runs instead of in
        SQLite under the data folder; for more than one machine (IMAGESETS_POSTGRES).
    broker: `redis://…`, where runs wait for workers on several machines; with PostgreSQL and data
        in an object store (IMAGESETS_BROKER). Without one, runs start where they are asked for.
    runs_at_once: with a broker, how many runs all workers together do at a time: their number, or
        that times their `--runs` (IMAGESETS_RUNS_AT_ONCE).
    longest_run_s: with a broker, seconds after which a run is ended, since its machine may be gone
        (IMAGESETS_LONGEST_RUN_S).
    webhook: URL that is told of runs that failed and mirrors that died, by the sensors `run_failed`
        and `mirror_died`, once they are on (IMAGESETS_WEBHOOK).
    """

    data: Path | str = ROOT / "data"
    catalogue: Path = BUILT_IN_CATALOGUE
    mirror: str | None = field(default=None, repr=False)  # addresses may hold passwords
    offline: bool = False
    openlineage: str | None = field(default=None, repr=False)
    options: Mapping[str, bool | int | str] = field(default_factory=dict)
    exports: tuple[str, ...] = field(default_factory=stages.default_exports)
    scratch: Path | None = None
    home: Path | None = None
    datasets: tuple[str, ...] = ()
    refresh_cron: str = "0 6 * * 1"
    verify_cron: str = "0 6 * * 4"
    deep_verify_cron: str = "0 6 1 * *"
    refresh_timezone: str = "UTC"
    executor: str = "in_process"
    postgres: str | None = field(default=None, repr=False)
    broker: str | None = field(default=None, repr=False)
    runs_at_once: int = 2
    longest_run_s: int = 3600
    webhook: str | None = field(default=None, repr=False)

    @property
    def store(self) -> Store:
        """Where everything lies, as it is read and written.

        Raises:
            StorageError: in an object store, and what reads it is not installed.
        """
        if isinstance(self.data, Path):
            return Folder(self.data)
        from pipelines.store import bucket  # which imports what --help need not wait for

        return bucket.opened(self.data, self.here)

    @property
    def shown_data(self) -> str:
        """Where everything lies, as people call it."""
        return str(self.data) if isinstance(self.data, Path) else shown(self.data)

    @property
    def here(self) -> Path:
        """The folder of this machine that things are made in: the data folder, or the scratch."""
        if isinstance(self.data, Path):
            return self.data
        return self.scratch or scratch_of(self.data)

    @property
    def dagster_home(self) -> Path:
        """The folder of Dagster's own records: runs, events, schedules."""
        if self.home is not None:
            return self.home
        if isinstance(self.data, Path):
            return self.data / "dagster"
        return platformdirs.user_data_path("imagesets") / "dagster" / name_of(self.data)

    @property
    def is_shared(self) -> bool:
        """Whether several machines may work on the same data, and record it in one database."""
        return bool(self.postgres) and not isinstance(self.data, Path)

    def plan(self, named: Collection[str] | None = None) -> Plan:
        """Return all there can be of the catalogue, made as it was chosen.

        Where no more than some sources or datasets are `named`, it is without those that are made
        on request and that nobody ever asked for.

        Raises:
            CatalogueError: listing every problem of every file.
        """
        from pipelines import plan  # which imports what --help need not wait for

        declared = plan.load(self.catalogue)
        if named is None:
            return plan.of(declared, self.chosen)
        from pipelines.lineage import status

        left_out = status.never_asked(self.store, declared, named)
        return plan.of(declared, self.chosen, left_out=left_out)

    def plan_shown(self) -> Plan:
        """Return what the UI shows: all there can be, but for what nobody ever asked for.

        Of a source that is made on request, it has the archives until then: every asset more takes
        the UI some milliseconds, and there may be thousands. Once they are fetched, or anything is
        built of it, the definitions that are loaded next have all there can be.

        Raises:
            CatalogueError: listing every problem of every file.
        """
        from pipelines import plan
        from pipelines.lineage import status

        declared = plan.load(self.catalogue)
        outlined = status.never_asked(self.store, declared, self.datasets or ())
        return plan.of(declared, self.chosen, outlined=outlined)

    def web(self) -> Web:
        """Return where archives come from."""
        from pipelines.building import Web

        return Web(self.mirror, self.offline)

    def target(self) -> Target:
        """Return where it is told what is made.

        Raises:
            ImagesetsError: somewhere, but what tells it is not installed.
        """
        from pipelines.lineage import openlineage

        if self.openlineage:
            openlineage.require_client()
        return openlineage.Target(self.openlineage, self.offline)

    @property
    def chosen(self) -> dict[str, bool | int | str]:
        """Every option, as it was chosen or by default."""
        default = {name: option.default for name, option in stages.options().items()}
        return {**default, **self.options}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables named above; an empty one counts as not set.

        Raises:
            ImagesetsError: a variable holds no folder, URL or switch.
        """
        given: dict[str, Any] = {}
        for key, variable in variables().items():
            if text := environment.get(variable, ""):
                try:
                    given[key] = reader(key)(text)
                except ValueError as error:
                    held = f"not usable: {error}" if key in _SECRET else refusal(text, error)
                    raise ImagesetsError(f"{variable} is {held}.") from error
        return cls().with_(given)

    def with_(self, given: Mapping[str, Any]) -> Settings:
        """Return these settings, overruled by some: by the name of the setting or the option."""
        known = stages.options()
        own = {name: value for name, value in given.items() if name not in known}
        chosen = {**self.options, **{name: given[name] for name in known if name in given}}
        options = {name: value for name, value in chosen.items() if value != known[name].default}
        return replace(self, **own, options=options)

    def as_environment(self) -> dict[str, str]:
        """Return the variables that say the same, for a process of our own."""
        said: dict[str, str] = {
            "data": str(self.data),
            "scratch": str(self.scratch or ""),
            "home": str(self.home or ""),
            "catalogue": str(self.catalogue),
            "mirror": self.mirror or "",
            "offline": str(int(self.offline)),
            "openlineage": self.openlineage or "",
            "exports": ",".join(self.exports),
            "datasets": ",".join(self.datasets),
            "refresh_cron": self.refresh_cron,
            "verify_cron": self.verify_cron,
            "deep_verify_cron": self.deep_verify_cron,
            "refresh_timezone": self.refresh_timezone,
            "executor": self.executor,
            "postgres": self.postgres or "",
            "broker": self.broker or "",
            "runs_at_once": str(self.runs_at_once),
            "longest_run_s": str(self.longest_run_s),
            "webhook": self.webhook or "",
        }
        said |= {
            name: value if isinstance(value, str) else str(int(value))
            for name, value in self.chosen.items()
        }
        return {variable: said[key] for key, variable in variables().items()}


def refusal(text: str, error: ValueError) -> str:
    """Return what was given and why it is refused; what may hold a password is not repeated."""
    return f"{'not usable' if re.search('[:@?]', text) else repr(text)}: {error}"


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that looks like a setting and is none; never its value.

    Variables of our own tests count for nothing.
    """
    known = {*variables().values()}
    unknown = (
        name
        for name in sorted({*environment} - known)
        if name.startswith("IMAGESET") and not re.match(_OF_TESTS, name)
    )
    return [
        f"{name} is not a setting."
        + (did_you_mean(name, known) or f" Known: {', '.join(variables().values())}.")
        for name in unknown
    ]


_OF_TESTS = r"IMAGESETS_(TEST_|OPENLINEAGE_SCHEMAS$|READERS_DATA$)"

_OWN = (
    "data",
    "catalogue",
    "mirror",
    "offline",
    "openlineage",
    "exports",
    "scratch",
    "home",
    "datasets",
    "refresh_cron",
    "verify_cron",
    "deep_verify_cron",
    "refresh_timezone",
    "executor",
    "postgres",
    "broker",
    "runs_at_once",
    "longest_run_s",
    "webhook",
)


def variables() -> dict[str, str]:
    """Return setting or option → the environment variable that holds it."""
    return {name: f"IMAGESETS_{name.upper()}" for name in (*_OWN, *stages.options())}


def reader(name: str) -> Callable[[str], Any]:
    """Return what reads a setting or an option from text; it raises ValueError for what is none."""
    option = stages.options().get(name)
    if option is None:
        return _READ[name]
    return _switch if isinstance(option.default, bool) else option.read


def folder(text: str) -> Path:
    """Return an absolute path: the processes that get it may run in other folders.

    Raises:
        ValueError: the text is empty, which is rather a slip than this folder, begins with `~` and
            the name of nobody, or is no name that everything here can take.
    """
    if not text.strip():
        raise ValueError("an empty path")
    try:
        path = Path(text).expanduser().absolute()
        longest = max(len(name.encode()) for name in path.parts)
    except RuntimeError as error:
        raise ValueError("nobody of that name has a home here") from error
    except UnicodeEncodeError as error:  # Dagster keeps it in its configuration, we in JSON
        raise ValueError("the name is not UTF-8; rename the folder, or link to it") from error
    if longest > LONGEST_NAME_BYTES:
        raise ValueError(
            f"a name of {longest:,} bytes; file systems take {LONGEST_NAME_BYTES} at most"
        )
    return path


def folder_or_bucket(text: str) -> Path | str:
    """Return an absolute path, or the address of an object store as it is.

    Raises:
        ValueError: the text is empty, or an address of another kind, or one that holds credentials.
    """
    if "://" not in text:
        return folder(text)
    url = urlsplit(text)
    if url.scheme == "file":
        return folder(unquote(url.path))
    if url.scheme not in SCHEMES:
        raise ValueError(f"write a folder, or an address that begins with {', '.join(SCHEMES)}")
    if not url.netloc:
        raise ValueError("an address without a bucket")
    if without_secrets(text) != text:
        raise ValueError(
            "credentials don't belong into the address, which is shown and recorded. Give them as "
            "the cloud's own tools want them, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Of "
            "options it may have region, scheme and endpoint_override"
        )
    return text


def folder_or_url(text: str) -> str:
    """Return a URL as it is, and a folder as an absolute path.

    Raises:
        ValueError: the text is empty, no valid URL, or a URL that lacks its beginning.
    """
    if "://" not in text:
        # Where https:// was forgotten, a password must not become the name of a folder.
        if re.search("[@?]", text) and not (re.match("(?!//)[./~]", text) or Path(text).exists()):
            raise ValueError(
                "neither a folder that is there nor an address, which begins with https:// or the "
                "like; write ./ before the name of a folder that has @ or ? in it"
            )
        return str(folder(text))
    redaction.check(text)
    url = urlsplit(text)
    if url.scheme == "file":
        return str(folder(unquote(url.path)))
    if url.scheme in ("http", "https"):
        if not url.hostname:
            raise ValueError("an address without a host")
        if any(ord(letter) > 255 for letter in unquote(url.netloc.rpartition("@")[0])):
            raise ValueError("HTTP takes only letters of Latin-1 in a user and a password")
    return text


def file_or_endpoint(text: str) -> str:
    """Return an http(s) URL as it is, and a file as an absolute path.

    Raises:
        ValueError: the text is empty, or a URL of another kind.
    """
    found = folder_or_url(text)
    if "://" in found and not found.startswith(("http://", "https://")):
        raise ValueError("neither a file nor an http(s) URL")
    return found


def positive(text: str) -> int:
    """Return a whole number, 1 or more.

    Raises:
        ValueError: it is none.
    """
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise ValueError("write a whole number, 1 or more")
    return int(text)


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("write 1 for on or 0 for off")


def _exports(text: str) -> tuple[str, ...]:
    names, known = tuple(name.strip() for name in text.split(",")), stages.exports()
    for name in names:
        if name not in known:
            raise ValueError(
                f"there is no export {name!r}.{did_you_mean(name, known)} Write some of "
                f"{', '.join(known)}, with commas"
            )
    return names


def _datasets(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):  # whether there are such is known once the catalogue is read
        raise ValueError("write names of datasets or sources, with commas")
    return names


def _cron(text: str) -> str:
    if len(text.split()) != 5:
        raise ValueError("write five fields, as 0 6 * * 1 for Mondays at 6")
    # Half a second, for those alone who set the variable; what Dagster can't read would otherwise
    # end the UI and the daemon.
    import dagster as dg

    try:
        dg.ScheduleDefinition(name="some", job_name="some", cron_schedule=text)
    except dg.DagsterInvalidDefinitionError as error:
        raise ValueError("no such time; write for example 0 6 * * 1 for Mondays at 6") from error
    return text


def _timezone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (KeyError, OSError, ValueError) as error:
        raise ValueError("no time zone is called so; write for example Europe/Paris") from error


def _executor(text: str) -> str:
    if text not in EXECUTORS:
        raise ValueError(f"write {' or '.join(EXECUTORS)}")
    return text


def _postgres(text: str) -> str:
    if not text.startswith("postgresql+psycopg2://"):  # SQLAlchemy 2.1 would take another driver
        raise ValueError("it must begin with postgresql+psycopg2://, which names the driver")
    redaction.check(text)
    return text


def _broker(text: str) -> str:
    if not re.match("rediss?://", text):  # results are kept there as well, which others can't
        raise ValueError("it must begin with redis:// or rediss://")
    redaction.check(text)
    return text


def _web_address(text: str) -> str:
    if not re.match(r"https?://[^/?#\s]", text, re.IGNORECASE):
        raise ValueError("write an address that begins with https://")
    return text


_SECRET = {"postgres", "broker", "webhook"}  # what these hold is not repeated in messages

_READ: dict[str, Callable[[str], Any]] = {
    "data": folder_or_bucket,
    "scratch": folder,
    "home": folder,
    "catalogue": folder,
    "mirror": folder_or_url,
    "offline": _switch,
    "openlineage": file_or_endpoint,
    "exports": _exports,
    "datasets": _datasets,
    "refresh_cron": _cron,
    "verify_cron": _cron,
    "deep_verify_cron": _cron,
    "refresh_timezone": _timezone,
    "executor": _executor,
    "postgres": _postgres,
    "broker": _broker,
    "runs_at_once": positive,
    "longest_run_s": positive,
    "webhook": _web_address,
}
