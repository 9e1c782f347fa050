"""OpenLineage events of single makings, and the outbox that takes them away."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import archives, catalogue
from pipelines.errors import ImagesetsError
from pipelines.lineage import openlineage
from pipelines.lineage.openlineage import Making, Outbox
from pipelines.store import Artefact, Input, Provenance
from pipelines.store.provenance import Run
from tests import builders
from tests.waiting import within

pytest.importorskip("openlineage.client", reason="the extra openlineage is not installed")

BEGAN, ENDED = "2024-05-01T10:00:00.000000Z", "2024-05-01T10:00:01.500000Z"
DAGSTER_RUN = "2493fd82-411a-4d5b-85d3-224821b35279"


@pytest.fixture
def making(publisher: builders.Publisher, tmp_path: Path) -> Making:
    """The making of an archive."""
    source = catalogue.load(publisher.catalogue).sources["tiny_letters"]
    artefact = archives.artefact(source, source.archives["letters.zip"])
    return Making(str(tmp_path / "data"), artefact, BEGAN, DAGSTER_RUN)


def record(artefact: Artefact, *inputs: Input) -> Provenance:
    """What is known of an artefact of 3 bytes, once it was made."""
    run = Run(DAGSTER_RUN, BEGAN, ENDED, "host", {})
    known = (artefact.path, 3, "ab" * 32, 0, artefact.stage, artefact.code_version, {})
    return Provenance(*known, inputs, {}, run)


def told(event: Any) -> Any:
    """An event as the client writes it."""
    from openlineage.client.serde import Serde

    return json.loads(Serde.to_json(event))


class TestEvents:
    """What is told of one making."""

    def test_all_events_of_a_making_are_of_one_run_and_of_one_job(self, making: Making) -> None:
        made = record(making.artefact)
        events = [
            told(openlineage.started(making)),
            told(openlineage.completed(making, made)),
            told(openlineage.failed(making, ValueError("no"), ENDED)),
        ]
        assert [event["eventType"] for event in events] == ["START", "COMPLETE", "FAIL"]
        assert [event["eventTime"] for event in events] == [BEGAN, ENDED, ENDED]
        [run_id] = {event["run"]["runId"] for event in events}
        assert str(uuid.UUID(run_id)) == run_id
        assert {(event["job"]["namespace"], event["job"]["name"]) for event in events} == {
            ("imagesets", "archives/tiny_letters/letters.zip")
        }

    def test_another_making_is_another_run(self, making: Making) -> None:
        later = replace(making, began=ENDED)
        elsewhere = replace(making, dagster_run=str(uuid.uuid4()))
        assert len({making.run_id, later.run_id, elsewhere.run_id}) == 3

    def test_the_dagster_run_is_the_parent_where_there_is_one(self, making: Making) -> None:
        parent = told(openlineage.started(making))["run"]["facets"]["parent"]
        assert parent["run"]["runId"] == DAGSTER_RUN
        alone = replace(making, dagster_run=None)
        assert "parent" not in told(openlineage.started(alone))["run"]["facets"]

    def test_a_failure_tells_the_error(self, making: Making) -> None:
        event = told(openlineage.failed(making, ValueError("expected 3, found 4"), ENDED))
        facet = event["run"]["facets"]["errorMessage"]
        assert facet["message"] == "expected 3, found 4"
        assert facet["programmingLanguage"] == "PYTHON"
        nameless = told(openlineage.failed(making, KeyboardInterrupt(), ENDED))
        assert nameless["run"]["facets"]["errorMessage"]["message"] == "KeyboardInterrupt"

    @pytest.mark.parametrize(
        ("origin", "namespace", "name"),
        [
            ("https://example.org/a/b.gz", "https://example.org", "/a/b.gz"),
            ("http://127.0.0.1:8000/b.gz", "http://127.0.0.1:8000", "/b.gz"),
            ("https://me:secret@example.org/b.gz?token=secret", "https://example.org", "/b.gz"),
            ("s3://bucket/a/b.gz?region=x", "s3://bucket", "a/b.gz"),
            ("s3://bucket/a/The%20Tower%20%231.npy", "s3://bucket", "a/The Tower #1.npy"),
            ("npm:package/data/b", "npm", "package/data/b"),
            ("apt:package/usr/share/b.gz", "apt", "package/usr/share/b.gz"),
            ("/srv/mirror/b.gz", "file", "/srv/mirror/b.gz"),
        ],
    )
    def test_an_archive_comes_from_where_it_was_got(
        self, making: Making, origin: str, namespace: str, name: str
    ) -> None:
        made = record(making.artefact, Input(origin, "cd" * 32, 3, "ef" * 16))
        event = told(openlineage.completed(making, made))
        [found] = event["inputs"]
        assert (found["namespace"], found["name"]) == (namespace, name)
        assert found["facets"]["version"]["datasetVersion"] == "cd" * 32
        assert found["inputFacets"]["inputStatistics"]["size"] == 3
        assert "secret" not in json.dumps(event)

    def test_an_archive_that_was_there_already_comes_from_nowhere(self, making: Making) -> None:
        made = record(making.artefact, Input(archives.ALREADY_THERE, "cd" * 32, 3))
        assert told(openlineage.completed(making, made))["inputs"] == []


def test_without_the_client_it_is_said_at_once_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    openlineage.require_client()
    monkeypatch.setitem(sys.modules, "openlineage", None)
    with pytest.raises(ImagesetsError, match=r"IMAGESETS_OPENLINEAGE.*pip install"):
        openlineage.require_client()


class Endpoint(http.server.ThreadingHTTPServer):
    """Takes events: answers with a status after a while."""

    daemon_threads = True

    def __init__(self, status: int, after_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.after_s = status, after_s
        self.paths: list[str] = []
        self.events: list[Any] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        pass  # somebody hung up


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        self.server.events.append(json.loads(body))
        self.server.over.wait(self.server.after_s)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def endpoint(status: int = 201, after_s: float = 0) -> Iterator[Endpoint]:
    with Endpoint(status, after_s) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [r for r in caplog.records if r.name.startswith("pipelines")]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


def fill(outbox: Outbox, making: Making, makings: int) -> float:
    """Put events of some makings, close; return how long that took in seconds."""
    start = time.perf_counter()
    for number in range(makings):
        one = replace(making, began=f"2024-05-01T10:00:{number:02}Z")
        outbox.put(lambda one=one: openlineage.started(one))  # type: ignore[misc]
        outbox.put(lambda one=one: openlineage.completed(one, record(one.artefact)))  # type: ignore[misc]
    assert time.perf_counter() - start < within(0.5), "whoever puts an event does not wait"
    outbox.close()
    return time.perf_counter() - start


class TestOutbox:
    """Where events go, and what happens where they can't."""

    @pytest.fixture(autouse=True)
    @staticmethod
    def _a_busy_machine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(openlineage, "PATIENCE_S", within(openlineage.PATIENCE_S))

    def test_a_file_has_an_event_on_each_line_and_is_gone_on_with(
        self, making: Making, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "a folder" / "events.jsonl"
        for _ in range(2):
            fill(Outbox(str(path)), making, 3)
        events = [json.loads(line) for line in path.read_text().splitlines()]
        assert [event["eventType"] for event in events] == ["START", "COMPLETE"] * 6
        assert warnings(caplog) == []

    def test_an_endpoint_gets_every_event_in_order(
        self, making: Making, caplog: pytest.LogCaptureFixture
    ) -> None:
        with endpoint() as server:
            fill(Outbox(server.url), making, 20)
            assert [event["eventType"] for event in server.events] == ["START", "COMPLETE"] * 20
            assert set(server.paths) == {"/api/v1/lineage"}
        assert warnings(caplog) == []

    def test_an_endpoint_that_fails_costs_one_warning(
        self, making: Making, caplog: pytest.LogCaptureFixture
    ) -> None:
        with endpoint(status=500) as server:
            assert fill(Outbox(server.url), making, 5) < openlineage.PATIENCE_S
            assert len(server.events) == 10, "it may recover, so each event is tried once"
        [warning] = warnings(caplog)
        assert server.url in warning
        assert "500" in warning
        assert "the build goes on" in warning

    def test_nobody_listening_costs_one_warning(
        self, making: Making, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and not listening: connections are refused
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            assert fill(Outbox(url), making, 5) < openlineage.PATIENCE_S
        [warning] = warnings(caplog)
        assert url in warning

    @pytest.mark.parametrize("after_s", [60, 0.2], ids=["hangs", "is slow"])
    def test_an_endpoint_that_takes_too_long_costs_little_time_and_one_warning(
        self,
        making: Making,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        after_s: float,
    ) -> None:
        monkeypatch.setattr(openlineage, "PATIENCE_S", within(0.5))
        with endpoint(after_s=after_s) as server:
            assert within(0.4) < fill(Outbox(server.url), making, 20) < within(2)
            assert 1 <= len(server.events) < 20
        [warning] = warnings(caplog)
        assert server.url in warning

    def test_a_password_is_not_in_the_warning(
        self, making: Making, caplog: pytest.LogCaptureFixture
    ) -> None:
        with endpoint(status=403) as server:
            fill(Outbox(server.url.replace("http://", "http://me:secret@")), making, 1)
        [warning] = warnings(caplog)
        assert server.url in warning
        assert "secret" not in warning

    def test_a_file_that_can_not_be_written_costs_one_warning(
        self, making: Making, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("")
        fill(Outbox(str(tmp_path / "file" / "events.jsonl")), making, 3)
        assert len(warnings(caplog)) == 1

    def test_an_event_that_can_not_be_built_costs_one_warning_and_no_other_event(
        self, making: Making, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        outbox = Outbox(str(tmp_path / "events.jsonl"))
        outbox.put(lambda: openlineage.started(None))  # type: ignore[arg-type]
        fill(outbox, making, 1)
        assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 2
        assert len(warnings(caplog)) == 1
