"""Passwords in addresses: recorded nowhere, shown nowhere, and removed where they were recorded."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from assets.command_line import main
from assets.running import passwords, runs
from assets.settings import Settings, variables
from pipelines.errors import ImagesetsError
from tests import servers
from tests.assets import records
from tests.assets.conftest import Command
from tests.assets.project import Project
from tests.assets.ui import (
    LAUNCH,
    REPOSITORY,
    free_port,
    materialize,
    outcome,
    served,
    without_daemon,
)
from tests.builders import Publisher
from tests.servers import Handler, serving
from tests.test_redaction import FORMS, is_told, secrets

PASSWORD, TOKEN, ENDPOINT = "s3cr3tpw", "t0k3nvalue", "0l1neagepw"
SECRETS = (PASSWORD, TOKEN, ENDPOINT)


class Guarded:
    """A server of files and of OpenLineage events, for those who say the password of each."""

    def __init__(self, root: Path) -> None:
        self.root, self.opened, self.events = root, 0, 0

    def __call__(self, handler: Handler, data: bytes) -> None:
        password = ENDPOINT if handler.command == "POST" else PASSWORD
        by = base64.b64encode(f"me:{password}".encode()).decode()
        if handler.headers.get("Authorization") != f"Basic {by}":
            servers.status(401)(handler, data)
        elif handler.command == "POST":
            self.events += 1
            handler.rfile.read(int(handler.headers["Content-Length"]))
            handler.start(200, 0)
        else:
            self.opened += 1
            path = handler.path.partition("?")[0]
            servers.good()(handler, (self.root / path.lstrip("/")).read_bytes())


@contextlib.contextmanager
def guarded(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Guarded, str, str]]:
    """A guarded server, and the addresses of its mirror and its endpoint."""
    monkeypatch.setattr(Handler, "do_POST", Handler.do_GET, raising=False)
    found = Guarded(project.publisher.mirror)
    with serving(b"", found) as server:
        host = server.url.removeprefix("http://").rstrip("/")
        yield found, f"http://me:{PASSWORD}@{host}?token={TOKEN}", f"http://me:{ENDPOINT}@{host}"


# --- what is recorded -----------------------------------------------------------------------------


@pytest.mark.parametrize("is_there", [True, False])
def test_a_build_records_nothing_that_opens_an_address(
    project: Project, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    with guarded(project, monkeypatch) as (server, mirror, endpoint):
        place = mirror if is_there else "http://me:s3cr3tpw@127.0.0.1:1/?token=t0k3nvalue"
        outcomes = project.build("tiny_letters", mirror=place, openlineage=endpoint)
    assert all(outcome.is_good for outcome in outcomes.values()) == is_there
    assert (server.opened > 0) == is_there
    assert server.events > 0
    assert records.holding(project.data, *SECRETS) == []


ASKED = {
    "resources": """{ repositoryOrError(repositorySelector: SELECTOR) { ... on Repository {
        allTopLevelResourceDetails { name description resourceType
            configFields { name description configTypeKey isRequired defaultValueAsJson }
            configuredValues { key type value } } } } }""",
    "defaults": """{ runConfigSchemaOrError(selector: { repositoryLocationName: "imagesets",
        repositoryName: "__repository__", pipelineName: "everything_of_tiny_letters" }) {
        ... on RunConfigSchema { rootDefaultYaml allConfigTypes { key description
            ... on CompositeConfigType { fields { name defaultValueAsJson } } } } } }""",
    "runs": """{ runsOrError { ... on Runs { results { runConfigYaml tags { key value }
        pipelineSnapshotId executionPlan { steps { key metadata { key value } } }
        eventConnection { events { ... on MessageEvent { message }
            ... on DisplayableEvent { label description metadataEntries { label description
                ... on TextMetadataEntry { text } ... on JsonMetadataEntry { jsonString }
                ... on MarkdownMetadataEntry { mdStr } } }
            ... on ExecutionStepFailureEvent { error { message stack
                cause { message stack } errorChain { error { message stack } } } } } }
    } } } }""",
    "snapshots": """query($id: String!) { pipelineSnapshotOrError(snapshotId: $id) {
        __typename ... on PipelineSnapshot { name
            modes { resources { name configField { defaultValueAsJson configType {
                recursiveConfigTypes { key ... on CompositeConfigType {
                    fields { name defaultValueAsJson } } } } } } } } } }""",
}


def test_the_ui_shows_nothing_that_opens_an_address(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = free_port()
    with guarded(project, monkeypatch) as (server, mirror, endpoint):
        chosen = Settings(project.data, project.publisher.catalogue, mirror, openlineage=endpoint)
        variables = {**chosen.as_environment(), "DAGSTER_HOME": str(runs.home(chosen))}
        project.publisher.archive("tiny_digits", "train-images.gz").write_bytes(b"no")
        with served(without_daemon(port), port, tmp_path, **variables) as ui:
            assets = (["tiny_letters", "archives"], ["tiny_digits", "archives"])
            launched = ui.ask(LAUNCH, params=materialize(*assets))["launchRun"]
            assert outcome(ui, launched["run"]["runId"]) == "FAILURE", "one of both is made"
            selector = ", ".join(f'{name}: "{value}"' for name, value in REPOSITORY.items())
            answers = {
                name: ui.ask(query.replace("SELECTOR", f"{{{selector}}}"))
                for name, query in ASKED.items()
                if name != "snapshots"
            }
            shown = answers["runs"]["runsOrError"]["results"]
            for number, run in enumerate(shown):
                found = ui.ask(ASKED["snapshots"], id=run["pipelineSnapshotId"])
                assert found["pipelineSnapshotOrError"]["__typename"] == "PipelineSnapshot"
                answers[f"snapshot {number}"] = found
    assert server.opened, "the addresses reached the runs"
    assert len(shown) == 1
    text = json.dumps(answers, ensure_ascii=False)
    assert "store" in text
    assert str(project.data) in text, "what is configured is among the answers"
    assert [secret for secret in SECRETS if secret in text] == []
    assert [secret for secret in SECRETS if secret in (tmp_path / "ui.log").read_text()] == []
    assert records.holding(project.data, *SECRETS) == []


def test_settings_do_not_show_addresses_in_their_own_words() -> None:
    chosen = Settings(
        mirror="https://me:s3cr3tpw@h/",
        openlineage="https://h/?token=t0k3nvalue",
        webhook="0l1neagepw",
    )
    assert [secret for secret in SECRETS if secret in repr(chosen)] == []


# --- what is typed --------------------------------------------------------------------------------


def echo(handler: Handler, _data: bytes) -> None:
    """A server that repeats what it was asked, as careless ones do."""
    sent = handler.headers.get("Authorization", "").removeprefix("Basic ")
    by = base64.b64decode(sent).decode("latin-1")
    body = json.dumps({"by": by, "sent": sent, "for": handler.path}, ensure_ascii=False).encode()
    handler.start(200, len(body))
    handler.wfile.write(body)


@pytest.fixture
def start(publisher: Publisher, tmp_path: Path) -> list[str]:
    """A command that fetches one archive."""
    options = ["--data", str(tmp_path / "d"), "--catalogue", str(publisher.catalogue)]
    return ["mirror", *options, str(tmp_path / "m"), "tiny_letters"]


@pytest.fixture(scope="module")
def careless() -> Iterator[str]:
    with serving(b"", echo) as server:
        yield server.url.removeprefix("http://").rstrip("/")


def said(*arguments: str) -> str:
    """All that a command prints."""
    stream = io.StringIO()
    with (
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
        contextlib.suppress(SystemExit),
    ):
        assert main(arguments) != 0
    return stream.getvalue()


# What is encoded is taken. A server that repeats it may escape it in ways that nobody foresees, and
# of several spaces in its answer one is told; those secrets have neither.
tame = secrets.filter(
    lambda text: text.isprintable() and not set(text) & set("\"'\\") and "  " not in text
)
spelled = st.one_of(secrets, tame.map(lambda text: quote(text, safe="")))


@given(
    st.sampled_from(
        ["http://{}:{}@{}/m", "http://{2}/m?u={0}&token={1}", "http:/{}:{}@{}", "{}:{}@{}"]
    ),
    spelled,
    spelled,
    st.sampled_from(["--mirror", "--miror", "--mirror=", "dataset", "variable"]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example("http://{}:{}@{}/m", "Zq9xmeZq9y", "Zq9x%20%2FZq9y", "--mirror")
@example("http://{2}/m?u={0}&token={1}", "Zq9xmeZq9y", "Zq9x@Zq9y", "--miror")
@example("http://{2}/m?u={0}&token={1}", "Zq9xmeZq9y", "Zq9x%20%2FZq9y", "variable")
def test_no_command_prints_what_opens_an_address_however_it_is_typed(
    careless: str,
    start: list[str],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    user: str,
    password: str,
    where: str,
) -> None:
    address = form.format(user, password, careless).replace("\0", "")
    if where == "variable":
        with monkeypatch.context() as patch:
            patch.setenv("IMAGESETS_MIRROR", address)
            text = said(*start)
    elif where == "dataset":
        text = said(*start, address) if "://" in address else ""
    elif where == "--miror":
        text = said(*start, where, address) if "://" in address else ""
    else:
        text = said(*start, *([where + address] if where.endswith("=") else [where, address]))
    assert not is_told(text), text


@given(
    st.sampled_from(
        [*FORMS, "{user}:{password}@h/x", "https:/{user}:{password}@h", "h?t={password}"]
    ),
    secrets,
    secrets,
    st.sampled_from(["mirror", "openlineage", "postgres", "webhook"]),
)
@settings(max_examples=200)
def test_no_setting_is_refused_with_what_opens_it(
    form: str, user: str, password: str, key: str
) -> None:
    text = form.format(user=user, password=password, user_free="folder")
    try:
        found = Settings.from_environment({variables()[key]: text})
    except ImagesetsError as error:
        chain = [error, error.__cause__]
        assert not any(is_told(str(link)) for link in chain if link)
    else:
        assert not is_told(repr(found))


@pytest.mark.parametrize("key", ["mirror", "openlineage"])
def test_the_refusal_of_a_password_says_how_to_write_it(key: str) -> None:
    with pytest.raises(ImagesetsError, match=r"not usable: .*Percent-encode.*%20 for a space"):
        Settings.from_environment({variables()[key]: "http://me:pass word@h/"})


def test_a_folder_with_an_odd_name_is_taken_where_it_can_not_be_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me@home").mkdir()
    for text in ("me@home", "./what?", f"{tmp_path}/a@b"):
        found = Settings.from_environment({"IMAGESETS_MIRROR": text}).mirror
        assert found == str(tmp_path / text)


# --- what was recorded before ---------------------------------------------------------------------


class Web(dg.ConfigurableResource):  # type: ignore[type-arg]
    """As version 0.1.0 had it."""

    mirror: str | None = None
    openlineage: str | None = None


def as_before(
    project: Project, mirror: str, openlineage: str | None = None, postgres: str | None = None
) -> Settings:
    """Record runs as version 0.1.0 did, with addresses in the configuration and in an error."""
    chosen = Settings(project.data, project.publisher.catalogue, postgres=postgres)

    @dg.asset(name="archives", key_prefix="tiny_letters")
    def archives(web: Web) -> None:
        raise dg.Failure(f"{web.mirror}/tiny_letters/letters.zip: HTTP 404")

    web = Web(mirror=mirror, openlineage=openlineage)
    job = dg.Definitions([archives], resources={"web": web}).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.from_config(str(runs.home(chosen))) as instance:
        job.execute_in_process(instance=instance, raise_on_error=False)
        given = {"resources": {"web": {"config": {"mirror": mirror}}}}
        job.execute_in_process(instance=instance, raise_on_error=False, run_config=given)
    return chosen


MIRROR = f"http://me:{PASSWORD}@example.org/mirror?token={TOKEN}"
ODD = f"http://me:{PASSWORD} wörd'\"\\@example.org/m"


def test_what_is_looked_for_would_be_found(project: Project) -> None:
    chosen = as_before(project, MIRROR, f"http://me:{ENDPOINT}@example.org")
    for secret in SECRETS:
        assert "runs.db, snapshots" in records.holding(chosen.dagster_home, secret)
        assert "runs.db, compressed" in records.holding(chosen.dagster_home, secret)


def test_a_build_tells_of_recorded_passwords_once_without_repeating_them(
    project: Project, command: Command
) -> None:
    as_before(project, MIRROR)
    arguments = ("fetch", "tiny_letters", *project.options, *project.mirror)

    for _ in range(2):
        told = command(*arguments)
        assert told.code == 0
        assert told.stderr.count("python -m assets forget-passwords --data ") == 1
        assert "what opens http://example.org/mirror:" in told.stderr
        assert PASSWORD not in told.stdout + told.stderr


def test_only_what_is_new_is_looked_at(project: Project, command: Command) -> None:
    arguments = ("fetch", "tiny_letters", *project.options, *project.mirror)
    for _ in range(2):
        assert "forget-passwords" not in command(*arguments).stderr
        (project.data / "archives/tiny_letters/letters.zip").unlink()  # so that a run is next
    with contextlib.closing(sqlite3.connect(project.data / "dagster/history/runs.db")) as database:
        database.execute("UPDATE snapshots SET snapshot_body = x'00' WHERE id = 1")
        database.commit()
    [noted] = json.loads((project.data / "dagster/looked_for_passwords.json").read_text()).values()
    assert noted["found"] == []
    assert noted["snapshots"] > 0

    as_before(project, MIRROR)  # another checkout, that is older, may use the same folder
    assert "forget-passwords" in command(*arguments).stderr


@pytest.mark.parametrize("mirror", [MIRROR, ODD])
def test_recorded_passwords_are_gone_from_every_byte_and_the_runs_are_still_there(
    project: Project, command: Command, mirror: str
) -> None:
    chosen = as_before(project, mirror, f"http://me:{ENDPOINT}@example.org")
    assert records.holding(chosen.dagster_home, *SECRETS)

    told = command("forget-passwords", *project.options)

    assert told.code == 0, told
    assert "Change these passwords" in told.stdout
    assert "what opens http://example.org/m" in told.stdout
    assert [secret for secret in SECRETS if secret in told.stdout + told.stderr] == []
    assert records.holding(chosen.dagster_home, *SECRETS) == []
    with dg.DagsterInstance.from_config(str(chosen.dagster_home)) as instance:
        found = instance.get_runs()
        assert [run.status.value for run in found] == ["FAILURE"] * 2
        for run in found:
            snapshot = instance.get_historical_job(str(run.job_snapshot_id))
            assert "tiny_letters__archives" in snapshot.job_snapshot.node_names
            logs = instance.all_logs(run.run_id)
            assert any("example.org" in entry.to_json() for entry in logs)
        config = found[0].run_config["resources"]["web"]["config"]["mirror"]
        assert config in ("http://example.org/mirror", "http://example.org/m")

    again = command("fetch", "tiny_letters", *project.options, *project.mirror)
    assert (again.code, "forget-passwords" in again.stderr) == (0, False)
    clean = command("forget-passwords", *project.options)
    assert (clean.code, clean.stdout) == (
        0,
        "No password of a mirror or an endpoint stands in Dagster's records.\n",
    )


def test_files_that_hold_a_recorded_password_are_named(project: Project, command: Command) -> None:
    as_before(project, ODD)
    record = project.data / "lineage/archives/tiny_letters/letters.zip.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"origin": f"{ODD}/tiny_letters/letters.zip"}))

    told = command("forget-passwords", *project.options)

    assert told.code == 1
    assert told.stdout.endswith(f"Delete them, and build again what is missing then:\n{record}\n")
    assert PASSWORD not in told.stdout


def test_a_database_that_another_process_keeps_busy_is_told(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "WAIT_S", 0.1)
    chosen = as_before(project, MIRROR)
    path = chosen.dagster_home / "history/runs.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM runs").fetchone()

        told = command("forget-passwords", *project.options)

        assert told.code == 1
        assert "Stop the UI and every build" in told.stderr
        assert PASSWORD not in told.stderr
    assert command("forget-passwords", *project.options).code == 0
    assert records.holding(chosen.dagster_home, *SECRETS) == []


def test_a_data_folder_without_records_has_nothing_to_forget(
    project: Project, command: Command
) -> None:
    told = command("forget-passwords", *project.options)
    assert (told.code, told.stderr) == (0, "")
    assert not (project.data / "dagster").exists()
