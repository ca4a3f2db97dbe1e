"""How much the tests try: one Hypothesis profile for every suite, its examples, and the sizes of large tests.

A profile is chosen by HYPOTHESIS_PROFILE. No profile has a deadline: a busy machine fails no test. What
fails is printed with a blob that repeats it (`@reproduce_failure`); under `ci` every run is the same.
"""

import os
from typing import Any

from hypothesis import HealthCheck, settings

DEFAULT, CI, NIGHTLY = "default", "ci", "nightly"
SHARES = {DEFAULT: 0.25, CI: 0.25, NIGHTLY: 1.0}  # of the examples that a test asks for
LEAST = 25

_common: dict[str, Any] = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],  # the machine may be slow, the data is not
}
settings.register_profile(DEFAULT, max_examples=50, **_common)
settings.register_profile(CI, max_examples=50, derandomize=True, database=None, **_common)
settings.register_profile(NIGHTLY, max_examples=200, **_common)


def chosen() -> str:
    return os.environ.get("HYPOTHESIS_PROFILE") or (CI if os.environ.get("CI") else DEFAULT)


def examples(nightly: int, **more: Any) -> settings:
    """Settings of a test that is worth more than the usual number: `nightly` at night, else a share of it."""
    return settings(max_examples=max(LEAST, int(nightly * SHARES[chosen()])), **more)


def size(nightly: int, usual: int) -> int:
    """Return how large a test of much data is: `make nightly` has the time for `nightly`."""
    return nightly if chosen() == NIGHTLY else usual


settings.load_profile(chosen())
