"""The sink holds records back until their schemas can be looked up."""

from collections.abc import Iterable

import pytest

from weir.adapters.memory_sink import MemoryRecords, MemoryTopics
from weir.runtime.ports import StreamBrokenError
from weir.runtime.sink_ports import PartitionId, Polled
from weir.sink import known
from weir.sink.known import KnownRecords

PLACE = PartitionId("events.resolved", 0)
HEADERS = {b"header one", b"header two"}


def test_records_are_passed_on_once_their_schema_lookup_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known, "PAUSE_SECONDS", 0.0)
    log = MemoryTopics()
    for header in sorted(HEADERS):
        log.write(PLACE, header + b" and more")
    log.write(PLACE, None)
    inner = MemoryRecords(log)
    inner.assign({PLACE})
    answers: list[Exception | None] = [StreamBrokenError("away"), StreamBrokenError("away"), None]
    asked: list[set[bytes | None]] = []

    def know(headers: Iterable[bytes | None]) -> None:
        asked.append(set(headers))
        fault = answers[len(asked) - 1] if asked[-1] else None
        if fault is not None:
            raise fault

    records = KnownRecords(inner, know)
    polled: list[Polled] = []
    while not any(one.slices for one in polled):
        polled.append(records.poll(0.0, False))
        assert records.trouble == ("" if any(one.slices for one in polled) else "away")
    assert asked == [HEADERS] * 3
    assert [len(one.slices) for one in polled] == [0, 0, 1]
    assert polled[-1].slices[0].records.offsets == [0, 1, 2]
    assert [gain.place for gain in polled[-1].gained] == [PLACE]
