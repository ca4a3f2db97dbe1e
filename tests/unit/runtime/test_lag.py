"""Lag metrics show the unread records of owned partitions and for how long records have waited."""

import uuid

from prometheus_client import REGISTRY

from weir.runtime.lag import LagReport

HOUR = 3_600.0


class Service:
    """Under a name of its own, as the registry is the process's."""

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex
        self.now = 1_000_000.0
        self.report = LagReport(self.name, lambda: self.now)

    def records(self, partition: str) -> float | None:
        labels = {"service": self.name, "partition": partition}
        return REGISTRY.get_sample_value("weir_lag_records", labels)

    def seconds(self) -> float | None:
        return REGISTRY.get_sample_value("weir_lag_seconds", {"service": self.name})


def test_lag_is_reported_only_for_owned_partitions() -> None:
    service = Service()
    service.report.export({"0": 5, "1": 0})
    assert (service.records("0"), service.records("1"), service.records("2")) == (5, 0, None)
    service.report.export({"1": 3, "2": 0})
    assert (service.records("0"), service.records("1"), service.records("2")) == (None, 3, 0)
    service.report.disown()
    assert (service.records("1"), service.records("2")) == (None, None)


def test_lag_seconds_keep_growing_without_progress_or_reports() -> None:
    service = Service()
    service.report.export({"0": 0})
    assert service.seconds() == 0
    service.now += 1
    service.report.export({"0": 5})
    service.now += 30
    assert service.seconds() == 31
    service.report.disown()  # while it recovers
    service.now += 30
    assert service.seconds() == 61


def test_lag_seconds_are_the_age_of_the_last_settled_record() -> None:
    service = Service()
    service.report.settled("0", int((service.now - HOUR) * 1000))
    service.report.export({"0": 5})
    assert service.seconds() == HOUR
    service.now += 1
    service.report.settled("0", int((service.now - 2) * 1000))
    service.report.export({"0": 5})
    assert service.seconds() == 2
    service.report.export({"0": 0})
    assert service.seconds() == 0


def test_a_record_after_a_quiet_hour_does_not_count_as_an_hour_of_lag() -> None:
    service = Service()
    service.report.settled("0", int(service.now * 1000))
    for _ in range(3):
        service.report.export({"0": 0})
        service.now += HOUR / 3
    service.report.export({"0": 0})
    service.now += 1
    service.report.export({"0": 1})
    assert service.seconds() == 1


def test_lag_seconds_are_those_of_the_slowest_partition() -> None:
    service = Service()
    for _ in range(60):
        service.report.settled("1", int(service.now * 1000))
        service.report.export({"0": 2, "1": 7})
        service.now += 1
    assert service.seconds() == 60


def test_a_clock_that_is_ahead_makes_no_negative_lag() -> None:
    service = Service()
    service.report.settled("0", int((service.now + HOUR) * 1000))
    service.report.export({"0": 5})
    assert service.seconds() == 0
