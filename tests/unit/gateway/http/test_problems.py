"""Problems that all doors share."""

import math

import pytest

from weir.gateway.http.problems import LONGEST_WAIT_SECONDS, limited


@pytest.mark.parametrize("wait", [1e300, math.inf, math.nan])
def test_a_wait_that_no_client_would_keep_is_told_as_a_day(wait: float) -> None:
    assert limited("rate_limited", "Events", wait).retry_after == LONGEST_WAIT_SECONDS


def test_a_wait_is_rounded_up_to_seconds() -> None:
    assert limited("rate_limited", "Events", 0.1).retry_after == 1
    assert limited("rate_limited", "Events", 1.5).retry_after == 2
