"""A failing insert is narrowed to its bad rows; those become dead letters and the rest is stored."""

import threading
from collections import Counter
from collections.abc import Sequence

import pytest
import structlog

from weir.adapters import avro
from weir.adapters.memory_sink import (
    MemoryDeadLetters,
    MemoryInserts,
    MemoryRecords,
    MemoryTopics,
    MemoryWarehouse,
)
from weir.runtime.sink_ports import (
    DeadLetters,
    DeadLettersFailedError,
    DeadRecord,
    Examination,
    Insert,
    PartitionId,
    RowsRefusedError,
    WarehouseAwayError,
)
from weir.sink.inserts import ThreadedDeadLetters, ThreadedInserts
from weir.sink.loop import Options, Ports, Sink
from weir.sink.partition import OBJECT_BYTES, VALUE_BYTES, Limits, expanded_size
from weir.sink.scheduling import SLOW_SECONDS
from weir.sink.step import Routes
from weir.sink.suspicion import FAILURES, REFUSALS, REPEATS, Next, Suspicion

PLACE = PartitionId("profiles", 0)
OTHER = PartitionId("profiles", 1)
DEAD = PartitionId("events.dead", 0)
HEADER = avro.schemas()["Profile"].header
HEAVY = HEADER + b"heavy"
ATTEMPT_SECONDS = 5.0
BUFFER_BYTES = 100_000
LOG = structlog.wrap_logger(
    None, processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)]
)


class Scene:
    """One sink at a time, over partitions that stay; `room`: heavy rows go in, too."""

    def __init__(self) -> None:
        self.now = 0.0
        self.room = False
        self.log = MemoryTopics()
        self.warehouse = MemoryWarehouse(
            heavy=lambda value: not self.room and value.startswith(HEAVY)
        )
        self.start()

    def start(self) -> None:
        self.records = MemoryRecords(self.log, poll_records=100)
        self.inserts = MemoryInserts(self.warehouse, lambda: self.now)
        self.letters = MemoryDeadLetters(self.log)
        self.begin(self.letters)

    def begin(self, letters: DeadLetters) -> None:
        ports = Ports(self.records, self.inserts, letters)
        options = Options(
            Limits(0.1, 100, 10_000), BUFFER_BYTES, 0.5, attempt_seconds=ATTEMPT_SECONDS
        )

        self.sink = Sink(ports, Routes(avro.name_of), options, LOG, lambda: self.now)
        self.records.assign({PLACE, OTHER, DEAD})

    def write(self, *values: bytes, place: PartitionId = PLACE) -> None:
        for value in values:
            self.log.write(place, value)

    def turn(self) -> None:
        self.now += 0.5
        self.sink.turn()

    def work(self, turns: int = 400) -> None:
        for _ in range(turns):
            self.turn()
            while self.inserts.waiting:
                self.inserts.run()

    def stored(self) -> Counter[bytes]:
        return Counter(value for table, value in self.warehouse.rows if table == "landing_profile")

    def dead(self) -> list[bytes]:
        letters = self.log.records.get(DEAD, [])
        return [avro.schemas()["DeadLetter"].decode(r.value or b"")["value"] for r in letters]


def ordinary(count: int, first: int = 0) -> list[bytes]:
    return [HEADER + b"%d" % n for n in range(first, first + count)]


def test_a_row_that_fails_alone_becomes_a_dead_letter_and_the_rest_is_stored() -> None:
    scene = Scene()
    before, behind, others = ordinary(9), ordinary(9, 10), ordinary(3, 50)
    scene.write(*before, HEAVY, *behind)
    scene.write(*others, place=OTHER)
    scene.work(3)
    assert scene.stored() == Counter(others)  # nobody else waits for it
    assert "no memory" in scene.sink.health.why_unready
    scene.work()
    assert scene.stored() == Counter(before + behind + others)
    assert scene.dead() == [HEAVY]
    assert scene.sink.health.why_unready == ""


@pytest.mark.parametrize(
    "fault",
    [
        RowsRefusedError("code 16: no such column"),
        WarehouseAwayError("code 242: read-only", "242", answered=True),
        WarehouseAwayError("no answer"),
    ],
)
def test_no_row_becomes_a_dead_letter_while_clickhouse_takes_no_rows_at_all(
    fault: Exception,
) -> None:
    scene = Scene()
    rows = ordinary(5)
    scene.write(*rows)
    assert isinstance(fault, RowsRefusedError | WarehouseAwayError)
    scene.warehouse.broken = fault
    scene.work()
    assert scene.dead() == []
    assert str(fault) in scene.sink.health.why_unready
    scene.warehouse.broken = None
    scene.work(20)
    assert scene.stored() == Counter(rows)
    assert scene.sink.health.why_unready == ""


def test_rows_inserted_without_an_answer_are_not_inserted_twice() -> None:
    scene = Scene()
    scene.write(HEAVY + b"1", HEAVY + b"2", *ordinary(2))
    while not scene.inserts.waiting:
        scene.turn()
    scene.room = True
    scene.inserts.run(answered=False)
    scene.room = False
    scene.work()
    assert set(scene.stored().values()) == {1}
    assert scene.dead() == []
    scene.room = True
    scene.work(20)
    assert set(scene.stored().values()) == {1}
    assert len(scene.stored()) == 4
    assert scene.sink.health.why_unready == ""


def test_a_previous_owners_late_insert_causes_no_duplicate_rows() -> None:
    scene = Scene()
    scene.write(*ordinary(2), HEAVY + b"1", HEAVY + b"2")
    while not scene.inserts.waiting:
        scene.turn()
    orphan = scene.inserts
    scene.start()
    scene.work(8)  # fails again and again, with four seconds gone since it has the partition
    scene.room = True
    orphan.run()
    scene.room = False
    scene.work()
    assert set(scene.stored().values()) == {1}
    assert scene.dead() == []


def test_a_server_wide_memory_error_is_not_blamed_on_a_single_row() -> None:
    suspicion = Suspicion(0.0)
    fault = WarehouseAwayError("(total)", "241", answered=True, of_server=True)
    steps = set()
    for _ in range(20):
        steps.add(suspicion.failed(fault, 1, 0.0))
        steps.add(suspicion.examined(Examination(ordinary_in=True, rows_in=False), 1, 1.0))
    assert Next.BLAME not in steps
    assert suspicion.examined(Examination(ordinary_in=True, rows_in=False), 2, 1.0) is Next.BLAME


def test_rows_are_blamed_only_after_an_unanswered_attempt_has_ended() -> None:
    suspicion = Suspicion(0.0)
    found = Examination(ordinary_in=True, rows_in=False)
    steps = [suspicion.failed(WarehouseAwayError("reset"), 2, ended_by=10.0) for _ in range(3)]
    assert steps == [Next.RETRY, Next.RETRY, Next.EXAMINE]
    assert suspicion.examined(found, 2, asked_at=8.0) is Next.CONFIRM
    assert suspicion.failed(WarehouseAwayError("reset"), 2, ended_by=10.0) is Next.EXAMINE
    assert suspicion.examined(found, 2, asked_at=9.0) is Next.WAIT
    assert suspicion.examined(found, 2, asked_at=10.0) is Next.BLAME


def test_rows_are_inserted_soon_after_clickhouse_has_recovered() -> None:
    scene = Scene()
    rows = ordinary(4)
    scene.write(*rows)
    scene.warehouse.broken = WarehouseAwayError("connection reset")
    for _ in range(REPEATS):
        while not scene.inserts.waiting:
            scene.turn()
        scene.inserts.run()
    scene.warehouse.broken = None
    recovered_at = scene.now
    while not scene.stored():
        scene.work(1)
        assert scene.now < recovered_at + ATTEMPT_SECONDS / 2
    assert scene.stored() == Counter(rows)


def test_a_refused_connection_only_causes_a_retry() -> None:
    suspicion = Suspicion(0.0)
    away = WarehouseAwayError("connection refused", sent=False)
    assert {suspicion.failed(away, 2, ended_by=99.0) for _ in range(20)} == {Next.RETRY}
    assert (suspicion.ended_by, suspicion.unanswered, suspicion.repeats) == (0.0, False, 0)


def test_a_refusal_after_an_unanswered_insert_causes_no_duplicate_rows() -> None:
    scene = Scene()
    rows = ordinary(4)
    scene.write(*rows)
    while not scene.inserts.waiting:
        scene.turn()
    scene.inserts.run(answered=False)
    scene.warehouse.broken = RowsRefusedError("code 16: no such column")
    scene.work(20)
    scene.warehouse.broken = None
    scene.work(20)
    assert scene.stored() == Counter(rows)
    assert scene.dead() == []
    assert scene.sink.health.why_unready == ""


def test_other_partitions_do_not_wait_for_one_whose_inserts_get_no_answer() -> None:
    """The slow partition holds more than the whole buffer, and each attempt takes its full time."""
    scene = Scene()
    scene.write(*[HEAVY + b"%d" % n + bytes(1_000) for n in range(3 * BUFFER_BYTES // 1_000)])
    everything: list[bytes] = []
    for step in range(200):
        more = [HEADER + b"%d" % step + bytes(1_000)]
        everything += more
        scene.write(*more, place=OTHER)
        scene.turn()
        for place, insert in list(scene.inserts.waiting):
            index = scene.inserts.waiting.index((place, insert))
            if place != PLACE:
                scene.inserts.run(index)
            elif scene.now % ATTEMPT_SECONDS == 0:
                scene.inserts.run(index, answered=False)
        held = sum(partition.held_bytes for partition in scene.sink._all())
        assert held < 3 * BUFFER_BYTES
        # until it is known to be slow, the others wait for it
        assert sum(scene.stored().values()) >= len(everything) - 2 * SLOW_SECONDS - 5
    assert scene.sink.health.why_unready != ""
    scene.room = True
    scene.work()
    assert set(everything) <= set(scene.stored())
    assert len(scene.stored()) + len(scene.dead()) == 200 + 3 * BUFFER_BYTES // 1_000
    assert set(scene.stored().values()) == {1}
    assert scene.sink.health.why_unready == ""


class ThreeInserts(MemoryInserts):
    """Two at once and one in the queue, as with two threads."""

    @property
    def free(self) -> int:
        return 3 - len(self.waiting)


def test_bookkeeping_goes_in_while_events_keep_every_insert_busy() -> None:
    """Each answer begins the next insert of events, as while a backlog is read and ClickHouse is slow."""
    scene = Scene()
    scene.inserts = ThreeInserts(scene.warehouse, lambda: scene.now)
    scene.begin(scene.letters)
    events = [PartitionId("events.resolved", n) for n in range(12)]
    scene.records.assign({PLACE, *events, DEAD})
    header = avro.schemas()["Resolved"].header
    scene.write(*ordinary(3))
    for step in range(100):
        for place in events:
            scene.write(header + b"%d-%d" % (place.partition, step), place=place)
        scene.turn()
        if scene.inserts.waiting:
            scene.inserts.run()  # one answer a turn
    assert len(scene.stored()) == 3
    assert scene.sink.health.why_unready == ""


def test_a_refused_row_is_given_up_where_no_ordinary_row_is_known_but_its_form_is_taken() -> None:
    suspicion = Suspicion(0.0)
    found = Examination(ordinary_in=False, rows_in=False, form_taken=True)
    steps = []
    for _ in range(REFUSALS):
        assert suspicion.failed(RowsRefusedError("no"), 1, 0.0) is Next.EXAMINE
        steps.append(suspicion.examined(found, 1, 1.0))
    assert steps == [Next.CONFIRM] * (REFUSALS - 1) + [Next.BLAME]
    away = Suspicion(
        0.0
    )  # a row that ClickHouse does not refuse needs an ordinary row of its table
    for _ in range(REPEATS):
        away.failed(WarehouseAwayError("no", "159"), 1, 0.0)
    assert away.examined(found, 1, 1.0) is Next.RETRY


def test_different_errors_in_turn_are_examined_like_one_that_repeats() -> None:
    suspicion = Suspicion(0.0)
    codes = ["241", "159"] * FAILURES
    steps = [
        suspicion.failed(WarehouseAwayError("no", code, sent=True), 10, 0.0)
        for code in codes[:FAILURES]
    ]
    assert steps == [Next.RETRY] * (FAILURES - 1) + [Next.EXAMINE]


def test_failing_partitions_leave_an_insert_slot_for_the_others() -> None:
    scene = Scene()
    third = PartitionId("profiles", 2)
    scene.records.assign({PLACE, OTHER, third, DEAD})
    for place in (PLACE, OTHER):
        scene.write(HEAVY + b"%d" % place.partition, place=place)
    scene.work(3)
    for _ in range(20):
        scene.turn()
        assert len(scene.inserts.waiting) <= 1
    scene.write(*ordinary(2), place=third)
    for _ in range(5):
        scene.turn()
    assert third in {place for place, _ in scene.inserts.waiting}
    scene.room = True
    scene.work(20)
    assert len(scene.stored()) == 4


class SlowWriter:
    """Of dead letters, at a broker that does not answer yet."""

    def __init__(self) -> None:
        self.written: list[DeadRecord] = []
        self.answers = threading.Event()

    def write(self, records: Sequence[DeadRecord]) -> int:
        self.answers.wait(60)
        self.written += records
        return 0


def test_other_partitions_do_not_wait_for_unanswered_dead_letter_writes() -> None:
    scene, writer = Scene(), SlowWriter()
    letters = ThreadedDeadLetters(writer)
    scene.begin(letters)
    scene.warehouse.bad = lambda value: value.startswith(HEAVY)
    scene.write(HEAVY)
    scene.work(20)
    scene.write(*ordinary(3), place=OTHER)
    scene.work(20)
    assert scene.stored() == Counter(ordinary(3))
    assert writer.written == []
    assert not scene.sink.drain(0)
    writer.answers.set()
    letters.close()
    assert scene.sink.drain(10)
    assert [record.value for record in writer.written] == [HEAVY]


class Confused:
    """A warehouse of which the client raises what nobody expects."""

    def insert(self, insert: Insert) -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    def examine(self, insert: Insert) -> Examination:
        return Examination(ordinary_in=True, rows_in=False)


def test_an_unexpected_client_exception_fails_only_its_insert() -> None:
    inserts = ThreadedInserts(Confused(), 1)
    inserts.start(PLACE, Insert("landing_profile", HEADER, [HEADER], "t"))
    while not (found := inserts.finished()):
        pass
    inserts.close()
    (finished,) = found
    assert isinstance(finished.fault, WarehouseAwayError)
    assert (finished.fault.code, finished.fault.answered) == ("UnicodeDecodeError", False)


def test_an_insert_is_limited_by_the_expanded_size_of_its_json() -> None:
    assert expanded_size(b'{"a":1,"b":{}}') == 14 + 2 * OBJECT_BYTES + VALUE_BYTES
    scene = Scene()
    wide = HEADER + b'{"k":[' + b"{}," * 30
    scene.sink._limits = scene.sink._side_limits = Limits(0.1, 100, 10**9, 3 * expanded_size(wide))
    scene.write(*[wide + b"%d" % n for n in range(10)])
    sizes = []
    for _ in range(40):
        scene.turn()
        while scene.inserts.waiting:
            sizes.append(len(scene.inserts.waiting[0][1].values))
            scene.inserts.run()
    assert sum(sizes) == 10
    assert max(sizes) <= 3


def test_the_sink_is_unready_while_dead_letters_fail_and_others_continue() -> None:
    scene = Scene()
    scene.letters.broken = DeadLettersFailedError("the topic takes none")
    scene.write(HEADER + b"1", HEAVY, HEADER + b"2")
    scene.write(*ordinary(3, 50), place=OTHER)
    scene.work()
    assert "the topic takes none" in scene.sink.health.why_unready
    assert set(ordinary(3, 50)) <= set(scene.stored())
    scene.letters.broken = None
    scene.work()
    assert scene.dead() == [HEAVY]
    assert scene.sink.health.why_unready == ""
