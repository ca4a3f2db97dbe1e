"""An eraser killed between any two effects and restarted reaches one outcome, counted once.

The world is a plain one in memory. It ends the eraser before or after the effect that the test
chooses; what was written then stands.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.profiles import examples
from weir.core import topics
from weir.core.identifiers import LEGACY_IDS
from weir.erasure.model import LEFT_IN, ErasedPerson, ErasedRows, EraseFilter, Erasure
from weir.erasure.workflow import Eraser, ErasureContext, RowsLeftError
from weir.runtime.wait_settled import PATIENT_LOOKS, NotSettledError

ROWS = {"duplicates": 2, "profile_parts": 3, "events": 7}
MINUTE = 60_000


class Ended(BaseException):
    """The process is gone: nothing after this point happens."""


class Memory:
    """ClickHouse, the topic of erasures, identity's markers, and the groups' backlog."""

    def __init__(self) -> None:
        self.rows = dict(ROWS)
        self.written: list[Erasure] = []
        self.erase_records: dict[str, int] = {}
        self.chosen = False
        self.unread_records = 2  # of each group, at the first look
        self.further: set[str] = set()  # identifiers that show only once identity was told
        self.clock = 1_000 * MINUTE
        self.effects_left = -1
        self.undeletable = False
        self.looks = 0  # at the books, which have the counts a little later

    def effect(self) -> None:
        if self.effects_left == 0:
            raise Ended
        self.effects_left -= 1

    # what is known of the person

    def whole(self, person: ErasedPerson) -> ErasedPerson:
        parts = [
            (name, "p", "u:ada") for name in ("a:x", *(self.further if self.erase_records else ()))
        ]
        return person.with_ties(parts, [])

    def holders(self, person: ErasedPerson) -> list[str]:
        return ["u:bob"]

    def merges(self, person: ErasedPerson) -> list[tuple[str, str]]:
        return [("p", "q")]

    # the writer

    def write(self, erasure: Erasure) -> None:
        self.effect()
        self.written.append(erasure)
        self.effect()

    def write_progress(self, erasure: Erasure) -> None:
        self.write(erasure)

    def write_erase_records(
        self, erasure: Erasure, identifiers: Iterable[str], kept_until: int
    ) -> None:
        self.effect()
        self.erase_records |= dict.fromkeys(identifiers, erasure.until)
        self.effect()

    def delete_merges(self, keys: Iterable[bytes]) -> None:
        self.effect()
        assert list(keys) == [b"acme\0merge\0p\0q"]

    # the groups

    def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        return {(topic, 0): 1 for topic in topics}

    def unread(self, group: str, ends: Mapping[tuple[str, int], int]) -> int:
        assert (topics.ERASURES, 0) not in ends  # else it would wait for what it writes itself
        left, self.unread_records = self.unread_records, max(0, self.unread_records - 1)
        return left

    # the rows

    def begin(self, person: ErasedPerson, until: int, workspaces: Mapping[str, str]) -> list[str]:
        self.effect()
        assert {"a:x", "u:ada"} | self.further <= person.names
        self.chosen = True
        return ["a refusal"]

    def count(self) -> tuple[dict[str, int], list[ErasedRows]]:
        assert self.chosen
        counts = [ErasedRows(t, "", "shop", 0, n) for t, n in self.rows.items() if n]
        return dict(self.rows), counts

    def recorded(self, erasure_id: str) -> int:
        assert self.pending().state == "counted"
        self.looks += 1
        return len(self.pending().counts) if self.looks > 2 else 0

    def delete(self) -> Iterator[str]:
        assert self.chosen
        assert self.looks > 2  # else what is deleted would be a loss to the books
        for table in self.rows:
            yield table
            self.effect()
            self.rows[table] = int(self.undeletable)

    def remaining(self) -> dict[str, int]:
        return {table: rows for table, rows in self.rows.items() if rows}

    def end(self) -> None:
        self.effect()
        self.chosen = False

    def now(self) -> int:
        self.clock += 1
        return self.clock

    def world(self) -> ErasureContext:
        configs = {topic: {"retention.ms": "1000"} for topic in LEFT_IN}
        return ErasureContext(
            self,
            self,
            self,
            self,
            configs,
            {"shop": "acme"},
            LEGACY_IDS,
            "",
            self.now,
            lambda s: False,
        )

    def pending(self) -> Erasure:
        return self.written[-1]


def request(memory: Memory) -> None:
    memory.written.append(Erasure("id", "acme", "user:ada", requested_at=1))


@examples(300)
@given(
    st.lists(st.integers(0, 30), max_size=6),
    st.sets(st.sampled_from(["a:y", "p:z"])),
)
def test_an_eraser_killed_at_any_effects_and_restarted_reaches_one_outcome(
    ends: list[int], further: set[str]
) -> None:
    memory = Memory()
    memory.further = further
    request(memory)
    for effects in (*ends, -1):  # the last one is left in peace
        memory.effects_left = effects
        with suppress(Ended):
            if memory.pending().state != "finished":
                Eraser(memory.world()).carry_out(memory.pending())
    finished = memory.pending()
    assert {row.place: row.rows for row in finished.counts} == ROWS
    assert not memory.remaining()
    assert not memory.chosen
    assert memory.erase_records.keys() == {"u:ada", "a:x", "u:bob"} | further
    assert set(memory.erase_records.values()) == {finished.until}
    assert finished.finished_at > finished.until > 0
    assert "ada" not in str(msgspec.to_builtins(finished))
    barred = EraseFilter([finished])
    assert barred.has_row("a refusal")
    assert barred.has_person("acme", ["u:ada"], [], finished.until)
    assert not barred.has_person("acme", ["u:ada"], [], finished.until + 1)
    assert {f"topic {topic}" for topic in LEFT_IN} < {place.place for place in finished.places}


def test_an_erasure_is_not_finished_while_rows_are_left() -> None:
    memory = Memory()
    memory.undeletable = True
    request(memory)
    with pytest.raises(RowsLeftError):
        Eraser(memory.world()).carry_out(memory.pending())
    assert memory.pending().state == "counted"


def test_an_erasure_whose_counts_do_not_arrive_ends_undone_and_can_be_repeated() -> None:
    memory = Memory()
    memory.looks = -PATIENT_LOOKS
    request(memory)
    with pytest.raises(NotSettledError, match="has not stored the erasure's counts"):
        Eraser(memory.world()).carry_out(memory.pending())
    assert memory.remaining() == ROWS
    finished = Eraser(memory.world()).carry_out(memory.pending())
    assert finished.state == "finished"
    assert not memory.remaining()
