"""A range keeps its insert tokens, and rows that ClickHouse refuses become dead letters."""

import pytest

from weir.core import reasons
from weir.runtime.sink_ports import Columns, Insert, PartitionId
from weir.sink.ranges import VERSION, ForeignIntentError, InsertAttempt, Intent, read_intent
from weir.sink.step import PoisonReason, Routes

PLACE = PartitionId("profiles", 3)
PROFILE, MERGE, LINK = (b"\xc3\x01" + bytes([n] * 8) for n in (1, 2, 3))
ROUTES = Routes({PROFILE: "Profile", MERGE: "Merge", LINK: "Link"}.get)
REFUSED = PoisonReason(reasons.REFUSED_BY_CLICKHOUSE, "code 117")


def columns(*values: bytes | None, first: int = 10) -> Columns:
    offsets = list(range(first, first + len(values)))
    return Columns(offsets, list(values), [b"k"] * len(values), [7] * len(values))


def range_of(records: Columns, intent: Intent | None = None) -> InsertAttempt:
    end = records.offsets[-1] + 1
    return InsertAttempt(
        PLACE, "id", records.offsets[0], records, ROUTES, intent or Intent(VERSION, end)
    )


def again(range_: InsertAttempt, records: Columns) -> InsertAttempt:
    """The same range, read by whoever comes next."""
    intent = read_intent(range_.intent())
    assert intent is not None
    return InsertAttempt(PLACE, "id", range_.start, records, ROUTES, intent)


def next_insert(range_: InsertAttempt) -> Insert:
    insert = range_.insert()
    assert insert is not None
    return insert


def test_a_range_of_one_schema_is_one_insert_with_a_token_naming_the_range() -> None:
    range_ = range_of(columns(PROFILE + b"a", PROFILE + b"b"))
    assert range_.intent() == '{"v":1,"end":12,"groups":{}}'
    insert = next_insert(range_)
    assert insert.table == "landing_profile"
    assert insert.values == [PROFILE + b"a", PROFILE + b"b"]
    assert insert.token == "profiles:id:3:10-12:0101010101010101"
    range_.settled()
    assert range_.done


def test_a_range_has_one_insert_per_schema_and_none_for_tombstones() -> None:
    range_ = range_of(columns(PROFILE, None, MERGE, PROFILE))
    tables = []
    while not range_.done:
        insert = next_insert(range_)
        tables.append((insert.table, len(insert.values)))
        range_.settled()
    assert tables == [("landing_profile", 2), ("landing_merge", 1)]
    assert range_of(columns(None, None)).done


def settle(records: Columns, bad: set[int]) -> tuple[list[int], list[int], int]:
    """Offsets that went in and that died, and attempts; begun anew from the intent before each."""
    stored: list[int] = []
    dead: list[int] = []
    attempts = 0
    range_ = range_of(records)
    while not range_.done:
        range_ = again(range_, records)
        insert = range_.insert()
        if insert is None:
            dead += [record.offset for record in range_.dead_records()]
            range_.settled()
            continue
        attempts += 1
        offsets = [int(value[10:]) for value in insert.values]
        if bad & set(offsets):
            range_.refused(REFUSED)
        else:
            stored += offsets
            range_.settled()
    return stored, dead, attempts


@pytest.mark.parametrize("bad", [set(), {10}, {21}, {109}, {20, 21, 60}, set(range(10, 110))])
def test_refused_rows_become_dead_letters_and_all_others_are_inserted_once(bad: set[int]) -> None:
    records = columns(*(PROFILE + str(offset).encode() for offset in range(10, 110)))
    stored, dead, attempts = settle(records, bad)
    assert sorted(stored) == [offset for offset in range(10, 110) if offset not in bad]
    assert dead == sorted(bad)
    assert attempts <= 1 + min(30 * len(bad), 2 * len(records.offsets))


def test_a_refused_row_stays_a_dead_letter_after_a_restart() -> None:
    records = columns(PROFILE + b"a")
    range_ = range_of(records)
    next_insert(range_)
    range_.refused(REFUSED)
    later = again(range_, records)
    assert later.insert() is None
    (record,) = later.dead_records()
    assert (record.offset, record.value, record.reason) == (
        10,
        PROFILE + b"a",
        reasons.REFUSED_BY_CLICKHOUSE,
    )
    later.settled()
    assert later.done


def test_a_record_without_a_table_becomes_a_dead_letter_without_an_insert() -> None:
    range_ = range_of(columns(PROFILE, LINK, b"", b"\xc3\x01stranger?"))
    assert next_insert(range_).table == "landing_profile"
    range_.settled()
    found = []
    while not range_.done:
        assert range_.insert() is None
        found += [(record.offset, record.reason) for record in range_.dead_records()]
        range_.settled()
    assert found == [
        (11, reasons.UNEXPECTED),
        (12, reasons.UNREADABLE),
        (13, reasons.UNREADABLE),
    ]


def test_a_range_that_lost_records_to_compaction_is_still_finished() -> None:
    records = columns(*(PROFILE + str(offset).encode() for offset in range(10, 18)))
    range_ = range_of(records)
    next_insert(range_)
    range_.refused(REFUSED)  # the window is now 10 to 14
    left = Columns([16, 17], records.values[6:], [b"k"] * 2, [7] * 2)
    later = again(range_, left)
    assert len(next_insert(later).values) == 2
    later.settled()
    assert later.done


@pytest.mark.parametrize("metadata", ["x", '{"v":2,"end":3}', '{"end":3}'])
def test_unknown_commit_metadata_raises_an_error(metadata: str) -> None:
    with pytest.raises(ForeignIntentError):
        read_intent(metadata)
    assert read_intent("") is None


def test_commit_metadata_stays_below_4096_characters() -> None:
    records = columns(PROFILE, MERGE, LINK, b"", *(bytes([n]) * 12 for n in range(4)))
    range_ = range_of(records)
    for _ in range(2):
        range_.refused(PoisonReason("x" * 30, "y" * 10_000))
    while not range_.done:
        assert len(range_.intent()) < 4_096
        range_.settled()
