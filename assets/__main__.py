"""The command line: `python -m assets list | build | fetch | verify | lock | mirror | …`.

Not here: anything that a stage does. This module reads what a person wants, calls, and prints.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from assets.command_line import display
from assets.command_line.display import say
from assets.settings import (
    VARIABLES,
    Settings,
    file_or_endpoint,
    folder,
    folder_or_url,
    level,
    misspelt,
    refusal,
)
from pipelines import __version__, catalogue, declarations, redaction
from pipelines.declarations import Dataset
from pipelines.errors import (
    ArchiveUnavailable,
    ArtefactError,
    ImagesetsError,
    TableError,
    UnknownName,
    did_you_mean,
)
from pipelines.store import hashing, layout, making

if TYPE_CHECKING:  # Dagster takes half a second that `list` need not wait for
    from assets.running.runs import Outcome
    from pipelines.lineage.verification import Verdict

STAGES = {
    "archives": ["archives"],
    "tables": ["tables"],
    "statistics": ["statistics"],
    "exports": ["csv", "lmdb"],
    "croissant": ["croissant"],
    "csv": ["csv"],
    "lmdb": ["lmdb"],
}

EXAMPLES = """\
examples:
  python -m assets list                         what there is, and its state
  python -m assets build mnist fashion_mnist    everything of two datasets
  python -m assets build emnist --only tables   the tables of its six datasets
  python -m assets build --mirror /srv/mirror   everything, from files you have
  python -m assets verify --deep mnist          every record against the archive
  python -m assets lock mnist > data.lock       pin the very bytes of a dataset
  python -m assets mirror /srv/mirror cifar10   verified archives for others
  python -m assets statistics mnist             records of each class
  python -m assets trace mnist/test:1234        a record, back to its publisher
  python -m assets ui                           the same in the browser
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no × shows a ?
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    handler = _Warnings(logging.WARNING)
    logger = logging.getLogger("pipelines")
    logger.addHandler(handler)
    try:
        for warning in misspelt(os.environ):
            say(f"warning: {warning}", error=True)
        settings = _settings(options)
        code: int = options.command(settings, options)
        say(end="", flush=True)
        return code
    except BrokenPipeError:  # nobody reads on
        _silence_stdout()
        return 141
    except (ImagesetsError, OSError) as error:
        try:
            say(end="", flush=True)  # what was found before, where it can be printed
        except (ImagesetsError, OSError):
            _silence_stdout()
        told = _refused(error) if isinstance(error, OSError) else f"{error}"
        say(f"error: {_without_secrets(told, arguments)}", error=True)
        return 2 if isinstance(error, UnknownName) else 1
    except KeyboardInterrupt:
        say("\ninterrupted; what was finished is kept, nothing is half made", error=True)
        return 130
    finally:
        logger.removeHandler(handler)


def _silence_stdout() -> None:
    """Drop what is still to be printed: Python would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refused(error: OSError) -> str:
    """Return what the system refused, where no stage has more to say of it."""
    where = f" {error.filename!r}" if error.filename else ""
    return (
        f"The system refuses{where}: {error.strerror or error}. Mend that, or choose another place "
        "(--help names the options)."
    )


class _Warnings(logging.Handler):
    """Shows our own warnings, above the progress bars where there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message; `sys.stderr` is looked up each time, since the bars replace it."""
        say(self.format(record), error=True)


def _list(settings: Settings, _options: argparse.Namespace) -> int:
    from assets import overview

    declared = catalogue.load(settings.catalogue)
    header = ("dataset", "records", "classes", "image", "archives", "here")
    rows = [header]
    read = []
    for dataset in declared.datasets.values():
        source = declared.source_of(dataset)
        states = overview.states(declared, dataset, settings)
        read += [s.sight.looked for _, s in states if s.is_up_to_date and s.sight]
        splits = [f"{split.records:,} {name}" for name, split in dataset.splits.items()]
        size = display.size(sum(archive.size_bytes for archive in source.archives.values()))
        state = overview.in_words(dataset, settings, states)
        rows.append(
            (
                dataset.name,
                " + ".join(splits),
                f"{len(dataset.classes)}",
                f"{dataset.image}",
                size,
                state,
            )
        )
    say(display.columns(rows, right={"classes", "archives"}))
    say(f"\ndata folder: {settings.data}\ncatalogue:   {settings.catalogue}")
    if read:
        say(f"up to date:  {display.last_read(hashing.seconds(min(read)))}")
    return 0


def _build(settings: Settings, options: argparse.Namespace) -> int:
    start = time.perf_counter()
    declared = catalogue.load(settings.catalogue)
    datasets = _selected(declared, options.datasets)
    stages = [stage for name in options.only or STAGES for stage in STAGES[_stage(name)]]
    from assets.running import runs  # imports Dagster: half a second that `list` need not wait for

    outcomes = runs.run(settings, datasets, stages, display.chosen())
    return _told(outcomes, settings, start)


def _told(outcomes: Sequence[Outcome], settings: Settings, start: float) -> int:
    """Print what became of the assets of a run; return the exit code."""
    rows = [("artefact", "records", "size", "seconds", "")]
    for outcome in outcomes:
        records = f"{outcome.records:,}" if outcome.records else ""
        size = display.size(outcome.size_bytes) if outcome.size_bytes else ""
        took = f"{outcome.seconds:.2f}" if outcome.state == "made" else ""
        rows.append((outcome.asset, records, size, took, outcome.state))
    say(display.columns(rows, right={"records", "size", "seconds"}))
    seconds = time.perf_counter() - start
    made = sum(outcome.state == "made" for outcome in outcomes)
    bad = [outcome for outcome in outcomes if not outcome.is_good]
    say(end="", flush=True)
    warnings = [(o.asset, warning) for o in outcomes for warning in o.warnings]
    for number, (asset, warning) in enumerate(warnings):
        say(f"{'' if number else chr(10)}warning: {asset}: {warning}", error=True)
    for outcome in bad:
        if outcome.error:
            say(f"\nerror: {outcome.asset}: {outcome.error}", error=True)
    if bad:
        blocked = sum(outcome.state == "blocked" for outcome in bad)
        text = f", {blocked} blocked by that" if blocked else ""
        say(f"\n{len(bad) - blocked} failed{text}.", error=True)
        return 1
    passed = "passed their checks" + (f" but for {len(warnings)} warning(s)" if warnings else "")
    if made:
        say(f"\nMade {made} of {len(outcomes)} in {seconds:.1f} s; all {passed}.")
        say(f"They are in {settings.data}.")
    else:
        say(f"\nNothing to do: all {len(outcomes)} are up to date and {passed}.")
    if read := [outcome.read_s for outcome in outcomes if outcome.state == "up to date"]:
        say(f"Up to date: {display.last_read(min(read))}.")
    return 0


def _fetch(settings: Settings, options: argparse.Namespace) -> int:
    options.only = ["archives"]
    return _build(settings, options)


def _verify(settings: Settings, options: argparse.Namespace) -> int:
    from assets import overview

    declared = catalogue.load(settings.catalogue)
    datasets = _selected(declared, options.datasets)
    screen, repaired, code = display.chosen(), set[tuple[str, str]](), 0
    while True:  # what was repaired is verified again, since that may bring more to light
        start = time.perf_counter()
        found = overview.verdicts(declared, datasets, settings, screen, deep=options.deep)
        if not found:
            raise _not_built(settings, options.datasets)
        _tell_verdicts(found, start)
        verdicts = [verdict for them in found.values() for verdict in them]
        broken = {(verdict.path, verdict.condition) for verdict in verdicts if not verdict.is_whole}
        if not broken:
            return code
        if not options.repair:
            say("The same command with --repair mends them.")
            return 1
        if broken <= repaired:  # it does not last: a disk or a memory that fails, another writer
            return 1
        repaired |= broken
        code = _repair(declared, settings, found, screen)


def _repair(
    declared: declarations.Catalogue,
    settings: Settings,
    found: Mapping[tuple[str, str], Sequence[Verdict]],
    screen: display.Display,
) -> int:
    """Make again what is not whole, and print what became of it; return the exit code."""
    import dagster as dg

    from assets import overview
    from assets.running import runs

    say("\nRepairing.\n", flush=True)
    start = time.perf_counter()
    wanted = overview.to_mend(declared, settings, found)
    for verdict in (verdict for them in found.values() for verdict in them):
        if verdict.condition == "changed":
            making.distrust(settings.data, verdict.path, verdict.sha256)
    outcomes = runs.materialize(settings, [dg.AssetKey(asset) for asset in wanted], screen)
    code = _told(outcomes, settings, start)
    say(flush=True)
    return code


def _tell_verdicts(found: Mapping[tuple[str, str], Sequence[Verdict]], start: float) -> None:
    verdicts = [verdict for them in found.values() for verdict in them]
    uncompared = [verdict for verdict in verdicts if verdict.condition == "uncompared"]
    broken = [verdict for verdict in verdicts if not verdict.is_whole and verdict not in uncompared]
    for verdict in broken:
        say(f"{verdict.path}: {verdict.condition}: {verdict.why}")
    for why in dict.fromkeys(verdict.why for verdict in uncompared):  # a line, not one for each
        paths = [verdict.path for verdict in uncompared if verdict.why == why]
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        say(f"{paths[0]}{more}: uncompared: {why}")
    seconds = time.perf_counter() - start
    if broken:
        verb = "is" if len(broken) == 1 else "are"
        say(f"\n{len(broken)} of {len(verdicts)} artefacts {verb} not whole ({seconds:.1f} s).")
    elif uncompared:
        said = f"{len(uncompared)} of {len(verdicts)} artefacts could not be compared"
        say(f"\n{said}; all have the bytes that are recorded ({seconds:.1f} s).")
    else:
        say(f"All {len(verdicts)} artefacts are whole ({seconds:.1f} s).")


def _lock(settings: Settings, options: argparse.Namespace) -> int:
    from assets import overview

    declared = catalogue.load(settings.catalogue)
    if options.check is None:
        chosen = _selected(declared, options.datasets)
        if not options.datasets:
            chosen = [one for one in chosen if _is_begun(settings, one)]
        if not chosen:
            raise _not_built(settings, options.datasets)
        for dataset in chosen:
            say(overview.lock(declared, dataset, settings))
        return 0
    wanted, differing = _locked(options.check, declared), 0
    for name in [dataset.name for dataset in _selected(declared, options.datasets or [*wanted])]:
        if name not in wanted:
            raise UnknownName(f"{options.check} has no line for {name}.")
        found = overview.lock(declared, declared.datasets[name], settings)
        say(f"{name}: {'as locked' if found == wanted[name] else f'differs: {found}'}")
        differing += found != wanted[name]
    return 1 if differing else 0


def _locked(path: Path, declared: declarations.Catalogue) -> dict[str, str]:
    """Return dataset → line of a file that `lock` printed."""
    make_one = "Make one: python -m assets lock DATASET > data.lock"
    try:
        lines = [line.rstrip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(
            f"{path} can't be read as lines of `lock`: {error}. {make_one}"
        ) from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if line and not re.fullmatch("[a-z0-9_]+  sha256:[0-9a-f]{64}", line):
            raise ArtefactError(
                f"{path}, line {number}: expected `DATASET  sha256:…` as `lock` prints it, found "
                f"{line!r:.60}. {make_one}"
            )
        name = line.partition(" ")[0]
        if line and name not in declared.datasets:
            raise UnknownName(
                f"{path}, line {number}: there is no dataset {name!r}."
                f"{did_you_mean(name, declared.datasets)}"
            )
        if found.get(name, line) != line:
            raise ArtefactError(
                f"{path}, line {number}: another line says otherwise of {name}. Keep the one that "
                "is meant."
            )
        found |= {name: line} if line else {}
    if not found:
        raise ArtefactError(f"{path} has no line of `lock`. {make_one}")
    return found


def _mirror(settings: Settings, options: argparse.Namespace) -> int:
    from pipelines import archives

    declared = catalogue.load(settings.catalogue)
    name = options.folder.name
    is_slip = not options.datasets and options.folder == Path.cwd() / name
    if is_slip and name in {*declared.sources, *declared.datasets} and not options.folder.exists():
        raise UnknownName(
            f"{name} is what to mirror; name a folder before it: python -m assets mirror FOLDER "
            f"{name}. If you mean a folder called {name}, make it first."
        )
    sources = dict.fromkeys(dataset.source for dataset in _selected(declared, options.datasets))
    screen, failures = display.chosen(), 0
    for source in map(declared.sources.__getitem__, sources):
        for archive in source.archives.values():
            goal = options.folder / source.name / archive.name
            here = settings.data / layout.archive(source.name, archive.name)
            places = archives.places(source, archive, settings.mirror, settings.offline)
            places = [str(here)] * here.exists() + places
            try:
                with screen.task(str(goal), archive.size_bytes, "bytes") as watch:
                    origin = archives.obtain(
                        archive, goal, places, declared.identify, watch, offline=settings.offline
                    )
            except ArchiveUnavailable as error:
                failures += 1
                say(f"error: {error}", error=True)
            else:
                say(f"{goal}  {'from ' * (origin != archives.ALREADY_THERE)}{origin}")
    if not failures:
        say(f"\nUse it with --mirror {options.folder}, or serve it over http(s).")
    return 1 if failures else 0


def _statistics(settings: Settings, options: argparse.Namespace) -> int:
    from pipelines import statistics

    declared = catalogue.load(settings.catalogue)
    printed = 0
    for dataset in _selected(declared, options.datasets):
        path = settings.data / layout.statistics(dataset.name)
        if path.exists():
            header, *lines, totals = statistics.counts_as_rows(path)
            say(end="\n" * bool(printed))
            text = display.columns([header, *lines, None, totals], right=header[1:])
            say(f"{dataset.title}\n\n{text}")
            printed += 1
        elif options.datasets:
            raise TableError(f"{path} is not there. Run: python -m assets build {dataset.name}")
    if not printed:
        raise _not_built(settings, options.datasets)
    return 0


def _trace(settings: Settings, options: argparse.Namespace) -> int:
    from assets.command_line import tracing
    from pipelines.lineage import trace

    chain = trace.trace(catalogue.load(settings.catalogue), settings.data, options.artefact)
    if options.json:
        say(tracing.as_json(chain))
        return 0 if chain.holds else 1
    tracing.show(chain, picture=options.picture)
    broken = sum(not hop.holds for hop in chain.hops)
    if broken:
        say(end="", flush=True)
        verb = "does" if broken == 1 else "do"
        say(f"\n{broken} of {len(chain.hops)} hops {verb} not hold.", error=True)
        return 1
    say(f"\nAll {len(chain.hops)} hops hold.")
    return 0


def _ui(settings: Settings, options: argparse.Namespace) -> int:
    from assets.command_line import processes
    from assets.definitions import automated
    from assets.running import runs
    from assets.settings import ROOT

    _check_port(options.host, options.port)
    automated(settings)  # say what is wrong here, not in a browser
    os.environ.update(settings.as_environment(), DAGSTER_HOME=str(runs.home(settings)))
    with runs.records(settings):  # two processes that set up the databases would collide
        pass
    python, workspace = [sys.executable, "-m"], ["-w", str(ROOT / "workspace.yaml")]
    # The daemon loads the definitions anew every minute, and would say so each time.
    quiet = ["--log-level", "warning", "--code-server-log-level", "error"]
    server = [*python, "dagster_webserver", *workspace, *quiet]
    server += ["--host", options.host, "--port", str(options.port)]
    daemon = [*python, "dagster._daemon", "run", *workspace, *quiet]
    say(f"Dagster UI: http://{options.host}:{options.port} (stop with Ctrl-C)", flush=True)
    answers = partial(_answers, options.host, options.port)
    ended = processes.together(server, daemon, is_ready=answers)
    if ended:
        say(f"error: {ended[2]} ended by itself; its messages are above", error=True)
    return 1 if ended else 0


def _forget_passwords(settings: Settings, _options: argparse.Namespace) -> int:
    from assets.running import passwords

    removed = passwords.remove(settings)
    for address in removed.addresses:
        say(f"removed from Dagster's records: what opens {address}")
    if removed.addresses:
        say(
            f"\n{removed.values} values were rewritten; every run is still there. Change these "
            "passwords: whoever could see the UI, the data folder or a backup of it could read "
            "them."
        )
    else:
        say("No password of a mirror or an endpoint stands in Dagster's records.")
    if removed.files:
        say("\nThese files hold one too. Delete them, and build again what is missing then:")
        say("\n".join(map(str, removed.files)))
    return 1 if removed.files else 0


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _check_port(host: str, port: int) -> None:
    """Refuse an address that the UI can't serve on, before a second daemon disturbs a first."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        why = str(getattr(error, "strerror", None) or error).partition(" (")[0].rstrip(".")
        raise ImagesetsError(
            f"The UI can't be served on {host}, port {port}: {why}. Is it running already? Choose "
            "another port with --port (make ui PORT=…)."
        ) from error


def _selected(declared: declarations.Catalogue, names: Sequence[str]) -> Sequence[Dataset]:
    return declared.select(names) if names else tuple(declared.datasets.values())


def _is_begun(settings: Settings, dataset: Dataset) -> bool:
    """Return whether a table of the dataset was ever made."""
    tables = (layout.table(dataset.name, split) for split in dataset.splits)
    return any((settings.data / layout.lineage(table)).exists() for table in tables)


def _not_built(settings: Settings, names: Sequence[str]) -> TableError:
    """Return the refusal to tell of what was never made."""
    what = f"of {', '.join(names)} " if names else ""
    run = " ".join(["python -m assets build", *names])
    return TableError(f"Nothing {what}is built in {settings.data} yet. Run: {run}")


def _stage(name: str) -> str:
    if name not in STAGES:
        raise UnknownName(
            f"There is no stage {name!r}.{did_you_mean(name, STAGES)} Known: {', '.join(STAGES)}."
        )
    return name


def _settings(options: argparse.Namespace) -> Settings:
    """Return the environment's settings, overruled by the options that were given."""
    given = {key: value for key in VARIABLES if (value := getattr(options, key, None)) is not None}
    return replace(Settings.from_environment(), **given)


def _without_secrets(text: str, arguments: Sequence[str]) -> str:
    """Return a message that repeats no password, however an argument is mistyped or misplaced."""
    for argument in arguments:
        if "://" in argument:
            for repeated in (argument, repr(argument)[1:-1]):
                text = text.replace(repeated, redaction.named(argument))
    return redaction.without_secrets(text)


def _explained(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a reader of an option's value whose refusal says why."""

    def explained(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(refusal(text, error)) from error

    return explained


def _refusing(arguments: Sequence[str]) -> type[argparse.ArgumentParser]:
    """Return a parser that refuses arguments without repeating what opens an address."""

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            super().error(_without_secrets(message, arguments))

    return Parser


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _refusing(arguments)(
        prog="python -m assets",
        description="MNIST, Fashion-MNIST, EMNIST, CIFAR-10 and CIFAR-100: fetched, verified, and\n"
        "made into Parquet tables, statistics, CSV and LMDB.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"imagesets {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--data",
        type=_explained(folder),
        metavar="FOLDER",
        help="where everything is made (IMAGESETS_DATA; default: data/ of this project)",
    )
    where.add_argument(
        "--catalogue",
        type=_explained(folder),
        metavar="FOLDER",
        help="your own declarations instead of the built-in ones (IMAGESETS_CATALOGUE)",
    )
    what = argparse.ArgumentParser(add_help=False)
    what.add_argument(
        "--csv-header",
        action=argparse.BooleanOptionalAction,
        help="begin every CSV with the names of its columns (IMAGESETS_CSV_HEADER)",
    )
    what.add_argument(
        "--compression-level",
        type=level,
        metavar="N",
        help="zstd's, of the tables: -7 to 22 (IMAGESETS_COMPRESSION_LEVEL; default: -1)",
    )
    whence = argparse.ArgumentParser(add_help=False)
    whence.add_argument(
        "--mirror",
        type=_explained(folder_or_url),
        metavar="FOLDER-OR-URL",
        help="look here first for archives, laid out <source>/<file> (IMAGESETS_MIRROR)",
    )
    whence.add_argument(
        "--offline",
        action=argparse.BooleanOptionalAction,
        help="never open a connection (IMAGESETS_OFFLINE)",
    )

    told = argparse.ArgumentParser(add_help=False)
    told.add_argument(
        "--openlineage",
        type=_explained(file_or_endpoint),
        metavar="FILE-OR-URL",
        help="tell a lineage catalogue what is made: JSON lines, or an endpoint "
        "(IMAGESETS_OPENLINEAGE)",
    )

    listing = commands.add_parser(
        "list",
        parents=[where, what],
        help="datasets, and what of them is here and up to date",
        description="Print every dataset of the catalogue with its size, and how much of it is "
        "here and up to date. Nothing is made.",
    )
    listing.set_defaults(command=_list)

    build = commands.add_parser(
        "build",
        parents=[where, what, whence, told],
        help="make what is missing or out of date",
        description="Make what is missing or out of date of the named datasets (all, if none is "
        "named). What is up to date, judged by content, is left alone. The exit code is 0 only if "
        "everything asked for is there and passed its checks.",
    )
    build.add_argument("datasets", nargs="*", metavar="DATASET", help="a dataset, or a source")
    build.add_argument(
        "--only",
        action="append",
        metavar="STAGE",
        help=f"only this stage and what it needs: {', '.join(STAGES)} (may be repeated)",
    )
    build.set_defaults(command=_build)

    fetch = commands.add_parser(
        "fetch",
        parents=[where, whence, told],
        help="get and verify archives only",
        description="Get the archives of the named sources (all, if none is named) and verify "
        "them. What is there and right is left alone; what was interrupted goes on.",
    )
    fetch.add_argument("datasets", nargs="*", metavar="SOURCE", help="a source, or a dataset")
    fetch.set_defaults(command=_fetch)

    verify = commands.add_parser(
        "verify",
        parents=[where, what, whence],
        help="hash everything again, and hold it against its records",
        description="Hash every artefact that was made of the named datasets (all, if none is "
        "named) and hold it against its lineage record. Each is whole, missing, changed, stale "
        "(its inputs, declaration or code moved on) or unknown (no record that can be trusted); "
        "with --deep also undeclared (not what the catalogue says of it) or uncompared (not all "
        "archives are here to compare it with). The exit code is 0 only if all are whole, or "
        "were repaired.",
    )
    verify.add_argument("datasets", nargs="*", metavar="DATASET", help="a dataset, or a source")
    verify.add_argument(
        "--deep",
        action="store_true",
        help="decode the archives too, and compare all that was made from them: byte by byte, or "
        "record by record where other versions of the libraries made it",
    )
    verify.add_argument(
        "--repair",
        action="store_true",
        help="make again what is not whole, from what is, and all that was made from it since",
    )
    verify.set_defaults(command=_verify)

    lock = commands.add_parser(
        "lock",
        parents=[where, what],
        help="one digest for all artefacts of a dataset",
        description="Print one SHA-256 for the whole set of artefacts of each named dataset (all "
        "that are built, if none is named). It is the same wherever and whenever they were made "
        "from the same bytes by the same code and libraries. Keep the line, and hold later builds "
        "against it with --check.",
    )
    lock.add_argument("datasets", nargs="*", metavar="DATASET", help="a dataset, or a source")
    lock.add_argument(
        "--check",
        type=_explained(folder),
        metavar="FILE",
        help="compare with lines that were printed before",
    )
    lock.set_defaults(command=_lock)

    mirror = commands.add_parser(
        "mirror",
        parents=[where, whence],
        help="make a folder of verified archives for others",
        description="Put verified archives of the named sources (all, if none is named) into a "
        "folder that others can use with --mirror, as it is or served over http(s).",
    )
    mirror.add_argument(
        "folder", type=_explained(folder), metavar="FOLDER", help="laid out <source>/<file>"
    )
    mirror.add_argument("datasets", nargs="*", metavar="SOURCE", help="a source, or a dataset")
    mirror.set_defaults(command=_mirror)

    statistics = commands.add_parser(
        "statistics",
        parents=[where],
        help="print the records of each class, per split",
        description="Print the classic table of the named datasets (all that are built, if none "
        "is named), with a row per class, a column per split, and the totals.",
    )
    statistics.add_argument("datasets", nargs="*", metavar="DATASET", help="a dataset, or a source")
    statistics.set_defaults(command=_statistics)

    trace = commands.add_parser(
        "trace",
        parents=[where],
        help="follow a row back to the publisher's bytes",
        description="Follow a record, or a row of statistics, back over its table and its place in "
        "the archive to where that came from, and verify every hop by reading its bytes. Without "
        "a row, follow the artefact as a whole. The exit code is 0 only if every hop holds.",
    )
    trace.add_argument(
        "artefact",
        metavar="ARTEFACT[:ROW]",
        help="mnist/train:5, exports/mnist/test.csv:5, mnist/statistics:train/7, or the path of a "
        "copy; rows count from 0",
    )
    trace.add_argument("--json", action="store_true", help="print one JSON object")
    trace.add_argument(
        "--no-picture", dest="picture", action="store_false", help="leave out the picture"
    )
    trace.set_defaults(command=_trace)

    forget = commands.add_parser(
        "forget-passwords",
        parents=[where],
        help="remove passwords that version 0.1.0 recorded",
        description="Version 0.1.0 let Dagster record the addresses of --mirror and --openlineage "
        "with their passwords and tokens, in data/dagster (or IMAGESETS_POSTGRES), where the UI "
        "shows them. This rewrites those records: every run stays, its addresses lose what opens "
        "them, and the old bytes are gone from the files. Stop the UI and every build first, and "
        "change the passwords afterwards: backups and copies may still hold them. Other files "
        "that hold one are named, and the exit code is 1 then.",
    )
    forget.set_defaults(command=_forget_passwords)

    ui = commands.add_parser(
        "ui",
        parents=[where, what, whence, told],
        help="open the Dagster UI on these assets",
        description="Serve the Dagster UI on these assets, with every run that was recorded in "
        "the data folder, and run the schedules and sensors that are turned on there. Runs obey "
        "the same options.",
    )
    ui.add_argument("--host", default="127.0.0.1", help="address to serve on (%(default)s)")
    ui.add_argument("--port", type=int, default=3000, help="port to serve on (%(default)s)")
    ui.set_defaults(command=_ui)
    return parser


if __name__ == "__main__":
    sys.exit(main())
