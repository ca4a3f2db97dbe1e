"""Property tests are run under one profile, and time never fails one."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import profiles

TESTS = Path(__file__).parents[1]
OWN_SETTINGS = {"profiles.py", "explore.py", "test_profiles.py"}  # the latter runs without pytest


@pytest.mark.parametrize("name", profiles.SHARES)
def test_no_profile_has_a_deadline_and_each_says_how_to_repeat_a_failure(name: str) -> None:
    profile = settings.get_profile(name)
    assert profile.deadline is None
    assert profile.print_blob or profile.derandomize


def test_the_profile_in_force_is_one_of_them() -> None:
    assert settings().deadline is None
    assert profiles.examples(4 * profiles.LEAST).max_examples >= profiles.LEAST


def test_no_test_sets_a_deadline() -> None:
    files = [path for path in TESTS.rglob("*.py") if path.name not in OWN_SETTINGS]
    assert [str(path) for path in files if "deadline=" in path.read_text()] == []
