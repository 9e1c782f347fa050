"""How properties are tried: on a busy machine as on an idle one."""

from __future__ import annotations

import pytest
from hypothesis import settings


@pytest.mark.parametrize("profile", ["dev", "ci", "nightly"])
def test_an_example_may_take_as_long_as_the_machine_is_busy(profile: str) -> None:
    assert settings.get_profile(profile).deadline is None
