"""Mapped webhooks resolve like events with the ids in them, while mappings change and workers die.

The oracle is a second pipeline, to which every event is sent as its client might have sent it: with
the ids that the mapping in force when the worker decided had found.
"""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import accepted
from tests.support.profiles import examples
from tests.unit.identity.test_stage import unique
from weir.adapters import avro, usage_records
from weir.adapters.dead_letters import worker_letters
from weir.adapters.memory import MemoryLog, MemoryStores, MemoryStream
from weir.core import topics
from weir.core.registry import IdMapping
from weir.identity.stage import IdentityStage
from weir.runtime.changelog import KeyedChangelog
from weir.runtime.deciding import AccountEncoders
from weir.runtime.worker import Worker

PARTITIONS = 3
GROUP = "weir.identity"
BY_USER = (IdMapping(event="*", user_id="customer"),)
BY_DEVICE = (IdMapping(event="*", anonymous_id="device"),)
BY_BOTH = (IdMapping(event="*", user_id="customer", anonymous_id="device"),)
MAPPINGS = st.sampled_from([(), BY_USER, BY_DEVICE, BY_BOTH])
PEOPLE = st.tuples(st.integers(1, 3), st.sampled_from("xyz"))
ROUNDS = st.lists(st.tuples(MAPPINGS, st.lists(PEOPLE, max_size=4), st.booleans()), max_size=8)


class Pipeline:
    """All partitions of identity in one worker, which may die between two turns."""

    def __init__(self) -> None:
        self.log = MemoryLog(PARTITIONS)
        self.mappings: Sequence[IdMapping] = ()
        self.start()

    def start(self) -> None:
        """A new process with an empty disk."""
        stream = MemoryStream(self.log, GROUP, topics.UNIQUE, batch_records=3)
        self._worker = Worker(
            IdentityStage(lambda source: self.mappings),
            stream,
            MemoryStores(),
            KeyedChangelog(topics.PROFILES, avro.is_one_of("Profile")),
            AccountEncoders(usage_records.encode_usage, worker_letters),
        )
        stream.assign(set(range(PARTITIONS)))

    def send(self, number: int, **fields: object) -> None:
        self.log.write(topics.UNIQUE, [unique(accepted(number, **fields))])

    def pass_what_is_there(self) -> None:
        """Decide on all that is in the input now; not on what is forwarded meanwhile."""
        ends = self._ends()
        while self._is_behind(ends):
            self._worker.turn(0)

    def drain(self) -> None:
        while self._is_behind(self._ends()):
            self._worker.turn(0)

    def _ends(self) -> list[int]:
        return [len(self.log.partition(topics.UNIQUE, p)) for p in range(PARTITIONS)]

    def _is_behind(self, ends: list[int]) -> bool:
        offsets = [self.log.offsets.get((GROUP, topics.UNIQUE, p), 0) for p in range(PARTITIONS)]
        return any(offset < end for offset, end in zip(offsets, ends, strict=True))

    def resolved(self) -> dict[bytes, avro.AvroRecord]:
        rows = [avro.decode_any(record.value)[1] for record in self.log.records(topics.RESOLVED)]
        by_id = {row["event_id"]: row for row in rows}
        assert len(by_id) == len(rows), "nothing is resolved twice"
        return by_id


def ids_of(row: avro.AvroRecord) -> tuple[str, str]:
    return row["user_id"], row["anonymous_id"]


@examples(150)
@given(ROUNDS)
def test_each_webhook_is_resolved_once_by_the_mapping_in_force_at_its_time(
    rounds: list[tuple[Sequence[IdMapping], list[tuple[int, str]], bool]],
) -> None:
    pipeline = Pipeline()
    expected: dict[bytes, tuple[str, str]] = {}
    for mappings, sent, dies in rounds:
        pipeline.mappings = mappings
        for customer, device in sent:
            number = len(expected)
            properties = f'{{"customer": {customer}, "device": "{device}"}}'
            nobody = {"wants_profile": False}
            pipeline.send(number, properties=properties, **nobody)
            by_user, by_device = mappings in (BY_USER, BY_BOTH), mappings in (BY_DEVICE, BY_BOTH)
            expected[accepted(number)["event_id"]] = (
                str(customer) if by_user else "",
                device if by_device else "",
            )
        pipeline.pass_what_is_there()  # what it writes again may wait for a later round's mappings
        if dies:
            pipeline.start()
    pipeline.drain()
    rows = pipeline.resolved()
    assert {event_id: ids_of(row) for event_id, row in rows.items()} == expected
    for row in rows.values():
        named = any(ids_of(row))
        assert bool(row["profile_id"]) == bool(row["session_id"]) == named


@examples(100)
@given(st.lists(PEOPLE, max_size=12))
def test_a_mapped_webhook_resolves_like_an_event_that_carries_the_ids(
    people: list[tuple[int, str]],
) -> None:
    mapped, direct = Pipeline(), Pipeline()
    mapped.mappings = BY_BOTH
    for number, (customer, device) in enumerate(people):
        properties = f'{{"customer": {customer}, "device": "{device}"}}'
        mapped.send(number, properties=properties, wants_profile=False)
        direct.send(number, properties=properties, user_id=str(customer), anonymous_id=device)
        for pipeline in (mapped, direct):
            pipeline.drain()
    assert mapped.resolved() == direct.resolved()
