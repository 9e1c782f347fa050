"""Addresses in messages: whatever opens them is taken out, or the address is refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipelines.redaction import check, named, without_secrets

FIRST, LAST = "Zq9x", "Zq9y"  # stand at both ends of every secret, so that no part of it gets out

FORMS = (
    "https://{user}:{password}@example.org/mirror",
    "http://{user}:{password}@127.0.0.1:8080/",
    "https://{user}@example.org/mirror?token={password}",
    "https://example.org/{user_free}?a=b&access_key={user}&secret_key={password}",
    "s3://{user}:{password}@bucket/folder?region=eu-west-1&endpoint_override=http://127.0.0.1:9000",
    "s3://bucket/folder?secret_key={password}&access_key={user}",
    "postgresql+psycopg2://{user}:{password}@127.0.0.1:5432/runs?sslmode=require",
)
forms = st.sampled_from(FORMS)
secrets = st.one_of(
    st.text(max_size=20),
    st.text("ab:/@?#&=%+ '\"()[]<>{}\\.,;~\t\n", max_size=20),
).map(lambda text: FIRST + text + LAST)


def typed(form: str, user: str, password: str) -> str:
    return form.format(user=user, password=password, user_free="folder")


def is_told(text: str) -> bool:
    return FIRST in text or LAST in text


@given(forms, secrets, secrets)
@settings(max_examples=300)
@example(FORMS[0], "Zq9xmeZq9y", "Zq9xpass wordZq9y")
@example(FORMS[0], "Zq9x", "12/34Zq9y")
@example(FORMS[1], "Zq9x", "12?34Zq9y")
@example(FORMS[2], "Zq9x", "it's (Zq9y)")
def test_whatever_is_typed_into_an_address_it_is_refused_or_told_without_its_secrets(
    form: str, user: str, password: str
) -> None:
    address = typed(form, user, password)
    try:
        check(address)
    except ValueError as error:
        refused = error
    else:
        refused = None
    if refused:
        assert not is_told(f"{refused} {refused.__cause__ or ''}")
        return
    for text in (
        f"{address}: HTTP 404",
        f"can't parse '{address}'",
        f'"{address}" ({address})',
        f"Max retries exceeded with url: /folder{address[address.find('?') :]} (no)"
        if "?" in address
        else address,
    ):
        assert not is_told(without_secrets(text)), text


@given(forms, secrets, secrets)
@settings(max_examples=200)
def test_percent_encoded_any_password_is_taken(form: str, user: str, password: str) -> None:
    check(typed(form, quote(user, safe=""), quote(password, safe="")))


@given(forms, secrets, secrets, st.integers(0, 300))
@settings(max_examples=200)
def test_what_a_server_says_of_an_address_is_told_without_what_opens_it(
    form: str, user: str, password: str, length: int
) -> None:
    address = typed(form, quote(user, safe=""), quote(password, safe=""))
    said = f"{{'user': {user}, 'password': {password}}} {address} {quote(password)} "[:length]
    begun = any(said.endswith(part) for part in (FIRST, LAST, "Zq9", "Zq", "Z"))
    assume(not begun)  # a few characters alone are told: they stand in messages by chance
    told = without_secrets(said, address)
    for secret in (user, password):
        assert secret not in told
        assert secret[:8] not in told


@given(secrets, secrets, st.sampled_from(["http://{}:{}@h/x", "htp ://{} {}@h", "--m=s3://{}{}@"]))
@example("Zq9x@", "?Zq9y", "http://{}:{}@h/x")
def test_a_whole_address_is_named_without_its_secrets_however_badly_it_is_written(
    user: str, password: str, form: str
) -> None:
    assert not is_told(named(form.format(user, password)))


def test_another_spelling_of_a_secret_that_begins_alike_is_taken_out_whole() -> None:
    address = "https://me:abcdef%2Bghi%20jkl@h/"
    for said in ("abcdef+ghi jkl", "abcdef%2Bghi%20jkl"):
        assert without_secrets(f"no {said} here", address) == "no … here"
    assert without_secrets("cut: abcdef+gh", address) == "cut: …"


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org",
        "https://example.org:8443/a/b%20c/",
        "http://[::1]:8080/mirror",
        "https://me@example.org/mirror",
        "https://bücher.example/spiegel/ä",
        "s3://bucket/folder?region=eu-west-1&endpoint_override=http://127.0.0.1:9000",
        "gs://bucket",
        "file:///srv/mirror",
        "postgresql+psycopg2://u:p@h/d?host=/var/run/postgresql",
    ],
)
def test_an_address_as_people_write_it_is_taken(address: str) -> None:
    check(address)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://h/a.gz?token=word: HTTP 404", "https://h/a.gz: HTTP 404"),
        ("(see https://me:w@h/a?b=c).", "(see https://h/a)."),
        ("What is this?", "What is this?"),
    ],
)
def test_the_sentence_around_an_address_stays(text: str, told: str) -> None:
    assert without_secrets(text) == told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/a.gz", "https://example.org/a.gz"),
        ("https://me:word@example.org:8080/a.gz", "https://example.org:8080/a.gz"),
        ("https://me:w@rd@example.org/a.gz", "https://example.org/a.gz"),
        ("https://example.org/a.gz?token=word", "https://example.org/a.gz"),
        ("s3://key:wo/rd@bucket/a.gz?region=x", "s3://bucket/a.gz?region=x"),
        ("s3://bucket/a.gz?region=x&scheme=http: no", "s3://bucket/a.gz?region=x&scheme=http: no"),
        ("s3://bucket/a.gz?region=x&token=word", "s3://bucket/a.gz"),
        ("can't parse 's3://key:word@bucket/a?b=word' at 5", "can't parse 's3://bucket/a' at 5"),
        ("https://example.org:8080/@scope/a.gz", "https://example.org:8080/@scope/a.gz"),
        ("npm:@scope/package/a.gz", "npm:@scope/package/a.gz"),
    ],
)
def test_a_place_is_named_without_what_opens_it(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
