"""Property tests run under the project's profiles and never fail because of time."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import profiles

TESTS = Path(__file__).parents[1]
OWN_SETTINGS = {"profiles.py", "explore.py", "test_profiles.py"}  # the latter runs without pytest


@pytest.mark.parametrize("name", profiles.SHARES)
def test_every_profile_has_no_deadline_and_makes_failures_repeatable(name: str) -> None:
    profile = settings.get_profile(name)
    assert profile.deadline is None
    assert profile.print_blob or profile.derandomize


def test_the_active_profile_has_no_deadline_and_a_minimum_of_examples() -> None:
    assert settings().deadline is None
    assert profiles.examples(4 * profiles.LEAST).max_examples >= profiles.LEAST


def test_no_test_sets_a_deadline() -> None:
    files = [path for path in TESTS.rglob("*.py") if path.name not in OWN_SETTINGS]
    assert [str(path) for path in files if "deadline=" in path.read_text()] == []
