"""NDJSON lines become unchanged events with ids, in batches within the gateway's limits."""

import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.cli.ndjson import MAX_BODY_BYTES, FileChunks, LineBatch, batches, with_id


class Pieces:
    """Chunks as they are given; an empty one says "nothing yet"."""

    size = 0

    def __init__(self, *pieces: bytes) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)

    def read(self) -> bytes | None:
        return next(self._pieces, None)

    def position(self) -> int:
        return 0

    def close(self) -> None:
        pass


def read(*pieces: bytes, limit: int = 500) -> list[LineBatch | None]:
    return list(batches(Pieces(*pieces), limit))


@pytest.mark.parametrize(
    "line", [b'{"id":"a"}', b'{"event":"x","idempotency_key":"k"}', b' {"id": 7, "a": null} ']
)
def test_an_event_with_an_id_is_unchanged(line: bytes) -> None:
    assert with_id(line) == line


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b" { } ",
        b'{"event":"page_view"}',
        b'{"id":null,"event":"x"}',
        b'{"idempotency_key": null}',
        b'{"properties":{"id":"of something else"}}',
        '{"event":"größe","properties":{"n":1.10}}'.encode(),
    ],
)
def test_an_event_without_an_id_gets_a_uuid_and_no_other_change(line: bytes) -> None:
    event = json.loads(with_id(line))
    assert uuid.UUID(event.pop("id")).version == 4
    before = {k: v for k, v in json.loads(line).items() if k not in ("id", "idempotency_key")}
    assert event == before


@pytest.mark.parametrize("line", [b"[1]", b"nope", b'{"a":', b"7", b'"text"', b'{"a":1} x'])
def test_a_line_that_is_not_a_json_object_raises_a_decode_error(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        with_id(line)


@given(st.lists(st.integers(0, 9).map(lambda n: b'{"id":"%d"}' % n), max_size=30), st.data())
def test_lines_are_read_whole_wherever_the_chunks_are_cut(
    lines: list[bytes], data: st.DataObject
) -> None:
    whole = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    found = [batch for batch in read(*pieces, limit=4) if batch is not None]
    assert [event for batch in found for event in batch.events] == lines
    assert [n for batch in found for n in batch.lines] == list(range(1, len(lines) + 1))
    assert all(len(batch.events) <= 4 for batch in found)


def test_blank_lines_are_skipped_but_count_in_line_numbers() -> None:
    (batch,) = read(b'\n{"id":"1"}\r\n  \n\n{"id":"2"}')
    assert batch is not None
    assert batch.lines == [2, 5]
    assert json.loads(batch.body()) == [{"id": "1"}, {"id": "2"}]


def test_invalid_lines_are_kept_separately_with_their_line_numbers() -> None:
    (batch,) = read(b'{"id":"1"}\nnope\n[2]\n')
    assert batch is not None
    assert batch.lines == [1]
    assert [(line, text) for line, text, _ in batch.broken] == [(2, b"nope"), (3, b"[2]")]


def test_available_lines_are_sent_without_waiting_for_a_full_batch() -> None:
    first, nothing, second = read(b'{"id":"1"}\n', b"", b"", b'{"id":"2"}\n')
    assert first is not None
    assert nothing is None
    assert second is not None


def test_a_batch_stays_within_the_gateways_body_limit() -> None:
    line = json.dumps({"id": "1", "properties": {"text": "x" * 90_000}}).encode()
    found = [batch for batch in read(b"\n".join([line] * 40)) if batch is not None]
    assert sum(len(batch.events) for batch in found) == 40
    assert all(len(batch.body()) <= MAX_BODY_BYTES + len(line) for batch in found)
    assert len(found) > 1


def test_the_halves_of_a_batch_hold_the_same_events_and_line_numbers() -> None:
    (batch,) = read(b"\n".join(b'{"id":"%d"}' % n for n in range(5)))
    assert batch is not None
    left, right = batch.halves()
    assert left.events + right.events == batch.events
    assert left.lines + right.lines == batch.lines


@pytest.mark.parametrize("name", ["events.ndjson", "events.ndjson.gz"])
def test_a_file_is_read_plain_or_gzipped(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = b'{"id":"1"}\n{"id":"2"}\n'
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    chunks = FileChunks(path)
    (batch,) = batches(chunks, 10)
    assert batch is not None
    assert len(batch.events) == 2
    assert chunks.position() == chunks.size
    chunks.close()
