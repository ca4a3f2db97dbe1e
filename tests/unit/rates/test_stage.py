"""Rates keeps totals per source as state and applies the registry's current quotas."""

from tests.support.events import NOON, batch_of
from weir.adapters import avro
from weir.core.batch import Output
from weir.core.registry import Quota
from weir.rates.stage import RatesStage


def usage_delta(source: str, events: int) -> Output:
    record = {
        "source": source,
        "minute": NOON,
        "stage": "dedup",
        "outcome": "accepted",
        "events": events,
        "bytes": 10 * events,
        "origin_topic": "events.accepted",
        "origin_partition": 0,
        "position": events,
        "seconds": [{"second": 0, "events": events}],
    }
    return Output(source.encode(), avro.schemas()["UsageDelta"].encode(record))


class Registry:
    def __init__(self) -> None:
        self.quotas: dict[str, tuple[Quota, ...]] = {}
        self.changed: set[str] = set()

    def stage(self) -> RatesStage:
        return RatesStage(lambda source: self.quotas.get(source, ()), self.take)

    def take(self) -> set[str]:
        changed, self.changed = self.changed, set()
        return changed


def test_usage_totals_continue_from_the_stored_state() -> None:
    stage = Registry().stage()
    first = stage.process(batch_of([usage_delta("shop", 2)]), lambda keys: {})
    second = stage.process(batch_of([usage_delta("shop", 3)]), lambda keys: first.changes)
    _, usage = avro.decode_any(second.changes[b"shop"])
    assert {window["events"] for window in usage["windows"]} == {5}
    assert usage["peak_rate"] == 5.0


def test_a_changed_quota_takes_effect_without_new_usage() -> None:
    registry = Registry()
    stage = registry.stage()
    state = stage.process(batch_of([usage_delta("shop", 2)]), lambda keys: {}).changes
    assert stage.refresh(0, lambda keys: state) is None
    registry.quotas["shop"] = (Quota(name="daily", period="day", limit=1),)
    registry.changed = {"shop", "never seen"}
    refreshed = stage.refresh(0, lambda keys: {k: state[k] for k in keys if k in state})
    assert refreshed is not None
    _, usage = avro.decode_any(refreshed.changes[b"shop"])
    assert usage["quotas"][0]["exceeded"]
    assert stage.refresh(0, lambda keys: state) is None


def test_an_unreadable_usage_record_is_refused_and_the_others_are_counted() -> None:
    stage = Registry().stage()
    outputs = [Output(b"", b"garbage"), usage_delta("shop", 2)]
    decided = stage.process(batch_of(outputs), lambda keys: {})
    decided.check(2, RatesStage.writes)
    assert [refusal.at for refusal in decided.refusals] == [0]
    assert list(decided.changes) == [b"shop"]
