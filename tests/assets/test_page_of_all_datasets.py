"""The page of all datasets, made by builds: it follows what is there."""

from __future__ import annotations

from tests.assets.conftest import Command
from tests.assets.project import Project, made


def test_a_card_is_linked_though_what_it_could_show_is_not_there_and_no_build_is_for_nothing(
    built: Project, command: Command
) -> None:
    page = built.data / "descriptions/index.html"
    assert made(built.build("tiny_digits", stages=["index"])) == {"catalogue/index"}
    assert "tiny_digits/card/index.html" not in page.read_text()
    both = ["--only", "card", "--only", "index"]
    said = command("build", "tiny_digits", *both, *built.options, *built.mirror)
    assert said.code == 0, said.stderr
    assert 'href="tiny_digits/card/index.html"' in page.read_text()
    said = command("build", "--only", "index", *built.options, *built.mirror)
    assert "Nothing to do" in said.stdout
    assert command("verify", "--deep", *built.options).code == 0
