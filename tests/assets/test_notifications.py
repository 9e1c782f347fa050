"""Telling people: what a webhook is told, and that it can do no harm."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest

from assets.running import mirrors, notifications
from assets.settings import Settings
from pipelines.errors import ImagesetsError
from tests.assets.project import Project, Site
from tests.assets.test_refresh import figures
from tests.servers import serving


@dataclass
class Chat:
    """A chat service with an incoming webhook, on loopback."""

    url: str = ""
    status: int = 200
    told: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def chat() -> Iterator[Chat]:
    found = Chat()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            found.told.append(json.loads(body))
            self.send_response(found.status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/hooks/secret-token"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


# --- the message ----------------------------------------------------------------------------------


def test_a_message_is_json_with_a_text_and_facts(chat: Chat) -> None:
    assert notifications.post(chat.url, "a run failed: 28×28", {"run_id": "1", "job": "refresh"})

    assert chat.told == [{"text": "a run failed: 28×28", "run_id": "1", "job": "refresh"}]


@pytest.mark.parametrize("status", [302, 403, 404, 500])
def test_a_webhook_that_refuses_is_logged_and_harms_nothing(
    chat: Chat, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    chat.status = status

    assert not notifications.post(chat.url, "the text", {})

    assert f"could not be told: HTTP {status}" in caplog.text
    assert "the text" in caplog.text
    assert "secret-token" not in caplog.text


def test_a_webhook_that_is_not_there_is_logged_without_its_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert not notifications.post("http://127.0.0.1:1/secret-token", "the text", {})

    assert "could not be told: ConnectionError" in caplog.text
    assert "secret-token" not in caplog.text


def test_a_webhook_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifications, "TIMEOUT_S", 0.2)
    release = threading.Event()
    with serving(b"", lambda _handler, _data: None) as silent:
        silent.RequestHandlerClass.do_POST = lambda _self: release.wait(60)  # type: ignore[attr-defined]
        try:
            assert not notifications.post(silent.url, "the text", {})
        finally:
            release.set()
            del silent.RequestHandlerClass.do_POST  # type: ignore[attr-defined]

    assert "ReadTimeout" in caplog.text


def test_without_a_webhook_the_message_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not notifications.post(None, "the text", {})

    assert "the text" in caplog.text
    assert "IMAGESETS_WEBHOOK is not set" in caplog.text


@pytest.mark.parametrize("text", ["hooks.example.org/secret", "ftp://example.org/secret"])
def test_an_address_that_is_a_slip_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ImagesetsError, match="IMAGESETS_WEBHOOK is not usable: ") as error:
        Settings.from_environment({"IMAGESETS_WEBHOOK": text})

    assert "secret" not in str(error.value)


def test_the_address_is_not_shown_with_the_settings() -> None:
    assert "s3cr3t" not in repr(Settings(webhook="https://example.org/s3cr3t"))


# --- runs that failed -----------------------------------------------------------------------------


def test_a_run_that_failed_is_told_with_its_id_job_and_error(
    project: Project, chat: Chat, instance: dg.DagsterInstance
) -> None:
    project.publisher.archive("tiny_letters", "letters.zip").unlink()
    mirror = str(project.publisher.mirror)
    repository = project.definitions(mirror, webhook=chat.url).get_repository_def()
    job = repository.get_job("everything_of_tiny_letters")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    context = dg.build_run_status_sensor_context(
        "run_failed", result.get_run_failure_event(), instance, result.dagster_run
    ).for_run_failure()

    repository.get_sensor_def("run_failed")(context)

    [told] = chat.told
    assert (told["run_id"], told["job"]) == (result.run_id, "everything_of_tiny_letters")
    assert told["error"].startswith("tiny_letters__archives: letters.zip (")
    assert "no such file" in told["error"]
    assert "Traceback" not in told["text"]
    assert result.run_id in told["text"]
    assert told["error"] in told["text"]


# --- mirrors that died ----------------------------------------------------------------------------


class Died:
    """Ticks of the sensor `mirror_died`, each after a refresh."""

    def __init__(
        self, project: Project, site: Site, chat: Chat, instance: dg.DagsterInstance
    ) -> None:
        self._instance, self._chat = instance, chat
        self._project, self._site = project, site
        self._cursor: str | None = None
        self.skipped = ""
        self.has_webhook(chat.url)

    def has_webhook(self, url: str | None) -> None:
        found = self._project.definitions(self._site.url, webhook=url)
        self._refresh = found.resolve_job_def("refresh")
        self._repository = found.get_repository_def()

    def __call__(self) -> list[str]:
        """Refresh, tick, and return what was told since."""
        self._refresh.execute_in_process(instance=self._instance)
        return self.again()

    def again(self) -> list[str]:
        before = len(self._chat.told)
        context = dg.build_sensor_context(
            self._instance, self._cursor, repository_def=self._repository
        )
        found = self._repository.get_sensor_def("mirror_died").evaluate_tick(context)
        assert not found.run_requests
        self._cursor, self.skipped = found.cursor, found.skip_message or ""
        return [told["text"] for told in self._chat.told[before:]]


@pytest.fixture
def died(built: Project, site: Site, chat: Chat, instance: dg.DagsterInstance) -> Died:
    return Died(built, site, chat, instance)


def test_a_mirror_that_died_is_told_once_and_again_when_it_died_again(
    died: Died, site: Site
) -> None:
    assert died() == []
    site.gone = True
    [text] = died()
    assert "6 file(s)" in text
    assert f"{site.url}tiny_letters/letters.zip: HTTP 404" in text
    assert died() == []
    site.gone = False
    assert died() == []
    site.gone = True
    assert len(died()) == 1


def test_a_mirror_that_serves_other_bytes_is_told(died: Died, built: Project, site: Site) -> None:
    built.publisher.archive("tiny_letters", "letters.zip").write_bytes(b"other")

    [text] = died()

    assert "1 file(s)" in text
    assert f"{site.url}tiny_letters/letters.zip: 5 bytes are announced" in text


def test_what_could_not_be_told_is_told_later(died: Died, site: Site, chat: Chat) -> None:
    site.gone, chat.status = True, 500
    assert len(died()) == 1
    chat.status = 200
    assert len(died.again()) == 1
    assert died.again() == []


def test_without_a_webhook_the_tick_says_so_and_tells_it_once_there_is_one(
    died: Died, site: Site, chat: Chat
) -> None:
    died.has_webhook(None)
    site.gone = True
    for _ in range(2):
        assert died() == []
        assert "6 file(s) can't be had from their mirrors" in died.skipped
        assert "tiny_letters/letters.zip: HTTP 404" in died.skipped
        assert "Nobody was told: IMAGESETS_WEBHOOK is not set." in died.skipped

    died.has_webhook(chat.url)

    [text] = died.again()
    assert "6 file(s)" in text
    assert died.skipped == "Told of 6 file(s)."


def test_what_came_back_while_there_was_no_webhook_is_told_when_it_dies_again(
    died: Died, site: Site, built: Project, chat: Chat
) -> None:
    site.gone = True
    assert len(died()) == 1
    site.gone = False
    assert died() == []
    died.has_webhook(None)
    site.gone = True
    assert died() == []
    died.has_webhook(chat.url)

    assert len(died.again()) == 1


def test_a_local_mirror_that_lacks_a_source_is_no_dead_mirror(
    built: Project, instance: dg.DagsterInstance
) -> None:
    mirror = built.publisher.mirror
    shutil.rmtree(mirror / "tiny_letters")
    (mirror / "tiny_digits" / "test-labels.gz").unlink()
    definitions = built.definitions(str(mirror))
    definitions.resolve_job_def("refresh").execute_in_process(instance=instance)

    assert mirrors.known(instance, "tiny_letters") == {}, "nobody could look at any"
    assert figures(instance, "tiny_digits") == (0, 1, 0), "of a source that it has, it lacks a file"
