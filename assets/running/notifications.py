"""Telling people outside of Dagster: one POST of JSON to an address that they name.

Not here: when there is something to tell (`sensors`). Chat services with incoming webhooks show
`text`; everything else is for programs. Another way to tell goes in here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

import requests

from pipelines.archives.web import USER_AGENT

TIMEOUT_S = 10.0

logger = logging.getLogger("pipelines.notifications")


def unable(webhook: str | None, *, offline: bool) -> str:
    """Return why nobody can be told of anything; nothing where that may work."""
    if webhook is None:
        return "IMAGESETS_WEBHOOK is not set."
    return "IMAGESETS_OFFLINE forbids connections." if offline else ""


def post(
    webhook: str | None, text: str, facts: Mapping[str, str], *, offline: bool = False
) -> bool:
    """Tell `text` and some facts; return whether anybody was told.

    A message that can't be delivered is logged and harms nothing.
    """
    if webhook is None or offline:
        logger.warning("%s\nNobody is told: %s", text, unable(webhook, offline=offline))
        return False
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
    body = json.dumps({"text": text, **facts}, ensure_ascii=False).encode()
    try:
        answer = requests.post(
            webhook, body, headers=headers, timeout=TIMEOUT_S, allow_redirects=False
        )
    except (requests.RequestException, ValueError) as error:  # the latter of odd characters
        problem = type(error).__name__  # its text names the address, which may be a secret
    else:
        if answer.ok and not answer.is_redirect:
            return True
        problem = f"HTTP {answer.status_code} {answer.reason}"
    logger.warning("%s\nThe webhook could not be told: %s.", text, problem)
    return False
