"""Numeric times are read as seconds or milliseconds according to their size, at every door."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import validated
from tests.unit.gateway.ingest.test_lenient_json import (
    CALL,
    PLAIN,
    SUPRSEND,
    TRACK,
    USERFLUX,
    body_of,
)
from weir.gateway.doors.door import Door
from weir.gateway.doors.events import door as events
from weir.gateway.doors.hackle import door as hackle
from weir.gateway.doors.segment import door as segment
from weir.gateway.doors.suprsend import door as suprsend
from weir.gateway.doors.userflux import door as userflux
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.event_times import EPOCH, MILLISECOND, epoch_ms, unmistakable
from weir.gateway.ingest.parsed_events import BodyLimits
from weir.gateway.ingest.validation import Event

NOW = 1_795_968_850_000
DOORS: dict[str, tuple[Door, dict[str, Any], str]] = {
    "array": (events.DOOR, PLAIN, "occurred_at"),
    "hackle": (hackle.DOOR, TRACK, "timestamp"),
    "segment": (segment.BATCH, CALL, "timestamp"),
    "suprsend": (suprsend.BULK, SUPRSEND, "$time"),
    "userflux": (userflux.BATCH, USERFLUX, "timestamp"),
}


@pytest.mark.parametrize("sent", [1_795_968_850, 1_795_968_850_000, 1_795_968_850.0])
@pytest.mark.parametrize("name", DOORS)
def test_times_in_seconds_or_milliseconds_are_recognised_at_every_door(
    name: str, sent: float
) -> None:
    door, event, field = DOORS[name]
    headers = CIMultiDict({"Content-Type": "application/json", "Authorization": "Basic azo="})
    request_meta = RequestMeta("POST", "/", "", {}, CIMultiDictProxy(headers), "", NOW)
    others = {"sentAt": NOW // 1_000} if name == "segment" else {}
    parsed = door.parse(
        request_meta, body_of(name, [event | {field: sent}], **others), BodyLimits(9, 9_999)
    )
    ((_, found),) = validated(parsed, NOW)
    assert isinstance(found, Event), found
    assert found.occurred_at == NOW


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, 0),
        (1_795_968_850.25, 1_795_968_850_250),
        (1_795_968_850_000.9, 1_795_968_850_000),
        (-86_400, -86_400_000),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (-100_000_000_000, -100_000_000_000),
    ],
)
def test_epoch_ms_reads_small_numbers_as_seconds_and_large_as_milliseconds(
    number: float, expected: int
) -> None:
    assert epoch_ms(number) == expected


@given(st.integers(-2_208_988_800_000, 4_000_000_000_000))
def test_any_millisecond_time_survives_unmistakable_and_epoch_ms(ms: int) -> None:
    at = unmistakable(ms)
    assert (epoch_ms(at) if isinstance(at, int) else (at - EPOCH) // MILLISECOND) == ms


def test_an_iso_time_in_1970_is_not_mistaken_for_seconds() -> None:
    """A time from a clock never set stays in 1970, though Segment's ISO 8601 becomes a number."""
    for text in ("1970-01-01T00:05:00Z", "1970-1-1 00:05:00"):
        parsed = segment.DOORS["track"].parse(
            RequestMeta("POST", "/", "", {}, CIMultiDictProxy(CIMultiDict({})), "", NOW),
            b'{"event":"a","userId":"u","timestamp":"%b"}' % text.encode(),
            BodyLimits(9, 9_999),
        )
        ((_, found),) = validated(parsed, NOW)
        assert isinstance(found, Event)
        assert found.occurred_at == 300_000
