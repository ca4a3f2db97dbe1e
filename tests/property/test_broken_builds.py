"""The exactness suites fail on builds that are broken on purpose."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.property.test_sink import SinkMachine
from tests.property.test_worker import Exactly, FaultyStream
from weir.adapters.memory import MemoryStream
from weir.runtime.deciding import Piece
from weir.runtime.ports import Transaction
from weir.runtime.worker import Worker
from weir.sink import partition
from weir.sink.ranges import InsertAttempt

MANY = settings(
    max_examples=2_000,
    stateful_step_count=30,
    derandomize=True,
    report_multiple_bugs=False,
    print_blob=False,
    phases=[Phase.generate],  # that it is found is enough; nobody reads the smallest case
)


class OffsetsFirst(FaultyStream):
    """Commits how far it has read, and what came of it only then."""

    def commit(self, transaction: Transaction) -> Mapping[int, int]:
        MemoryStream.commit(self, Transaction([], [], transaction.inputs))
        return super().commit(transaction)


class StateFirst(Worker):
    """Applies the changes to its stores before they are committed."""

    def _transaction(self, pieces: list[Piece]) -> Transaction:
        for batch, result, _, _ in pieces:
            self._open[batch.partition].apply(result.changes, self._at(batch.partition))
        return super()._transaction(pieces)


class CommitsFirst(Exactly):
    streams = OffsetsFirst


class Hasty(Exactly):
    workers = StateFirst


class AnyTopic(InsertAttempt):
    """Its tokens do not say of which making of the topic its rows are."""

    def __init__(self, place: Any, topic_id: str, *rest: Any) -> None:
        super().__init__(place, "", *rest)


@pytest.mark.parametrize("broken", [CommitsFirst, Hasty])
def test_the_worker_suite_fails_for_a_worker_that_commits_out_of_order(
    broken: type[RuleBasedStateMachine],
) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(broken, settings=MANY)


def test_the_sink_suite_fails_for_insert_tokens_without_the_topic_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition, "InsertAttempt", AnyTopic)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(SinkMachine, settings=MANY)
