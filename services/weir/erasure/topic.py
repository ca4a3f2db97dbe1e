"""The topic `erasures`: request an erasure, follow it, and tell the identity workers to forget the person."""

from collections.abc import Callable, Iterable
from itertools import starmap
from typing import TypeVar

import msgspec
from confluent_kafka import KafkaException

from weir.adapters import avro
from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.clients import Entry, TableReader, client_options, write_entries
from weir.adapters.kafka.table_entries import apply_entries
from weir.adapters.kafka.transactions import Transactions
from weir.core import topics
from weir.core.batch import Output
from weir.core.identifiers import workspace_key
from weir.erasure.model import Erasure, names_to_forget
from weir.runtime.ports import StreamBrokenError
from weir.settings.shared import KafkaSettings

TRANSACTIONAL_ID = "weir-eraser"
TRANSACTION_SECONDS = 30
SECONDS = 30.0
T = TypeVar("T")


def erasure_entries(erasure: Erasure) -> list[tuple[bytes, bytes]]:
    """Return the erasure's (key, value) records in the order in which to write them, the first portion last.

    So a reader that has the first portion has read all the others.
    """
    portions = enumerate(erasure.in_portions())
    return [(_key(erasure.erasure_id, n), _value(portion)) for n, portion in portions][::-1]


def _key(erasure_id: str, portion: int) -> bytes:
    return (f"{erasure_id}/{portion}" if portion else erasure_id).encode()


def _value(portion: Erasure) -> bytes:
    return avro.schemas()["Erasure"].encode(msgspec.to_builtins(portion, builtin_types=(bytes,)))


def read_erasure(value: bytes) -> Erasure:
    return msgspec.convert(avro.decode_any(value)[1], Erasure)


def request_erasure(settings: KafkaSettings, erasure: Erasure) -> None:
    """Write the erasure to its topic. It is durable on return; `UnavailableError` otherwise."""
    try:
        write_entries(settings, topics.ERASURES, erasure_entries(erasure))
    except KafkaException as fault:
        raise _away(fault) from None


class Erasures:
    """Every erasure by id. Update it with `apply`, entry by entry in the order of the topic."""

    def __init__(self) -> None:
        self.by_id: dict[str, Erasure] = {}
        self.loaded = False
        self._further: dict[bytes, Erasure] = {}  # all portions but the first ones, by key

    def apply(self, entries: Iterable[Entry]) -> None:
        apply_entries(topics.ERASURES, entries, self._apply)
        self.loaded = True

    def _apply(self, key: bytes, value: bytes | None) -> None:
        erasure_id, _, portion = key.decode().partition("/")
        if value is None:
            self.by_id.pop(erasure_id, None)
        elif portion:
            self._further[key] = read_erasure(value)
        else:
            first = read_erasure(value)
            keys = (_key(erasure_id, n) for n in range(1, first.portions))
            # where compaction has removed part of an older version, a portion of it may be missing
            others = [self._further[key] for key in keys if key in self._further]
            self.by_id[erasure_id] = first.joined(others)

    def pending(self) -> list[Erasure]:
        """Return the erasures still to carry out, the oldest request first."""
        waiting = [e for e in self.by_id.values() if e.state != "finished"]
        return sorted(waiting, key=lambda erasure: erasure.requested_at)

    def outdated(self, now: int) -> list[Erasure]:
        """Return the erasures whose digests are no longer needed: no topic can hold records of the person."""
        return [e for e in self.by_id.values() if e.barred and e.barred_until < now]

    def pending_of(self, workspace: str, subject: str) -> Erasure | None:
        """Return the pending erasure of a subject, if any, so that a second request joins the first."""
        for erasure in self.pending():
            if (erasure.workspace, erasure.subject) == (workspace, subject):
                return erasure
        return None


class ErasureFollower:
    """`Erasures`, read to the end of the topic on construction and updated by `poll`. Close it.

    `UnavailableError` if the brokers do not answer.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.erasures = Erasures()
        self._reader = TableReader(settings, topics.ERASURES, rest_ms=100)
        try:
            self._reader.read_all(lambda key, value: self.erasures.apply([(key, value)]), SECONDS)
        except KafkaException as fault:
            self._reader.close()
            raise _away(fault) from None

    def poll(self, seconds: float) -> None:
        try:
            self.erasures.apply(self._reader.poll(seconds))
        except KafkaException as fault:
            raise _away(fault) from None

    def close(self) -> None:
        self._reader.close()


class ErasureWriter:
    """The writer of the only eraser. Each call is one transaction, durable on return.

    A new writer fences the one before it, which then raises `FencedError`. `UnavailableError` if the
    brokers do not answer: nothing of the call counts, and the writer must not be used any more.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        writes = (topics.ERASURES, topics.UNIQUE, topics.PROFILES)
        try:
            self._transactions = Transactions(
                client_options(settings), TRANSACTIONAL_ID, TRANSACTION_SECONDS, writes
            )
        except StreamBrokenError as fault:
            raise UnavailableError(f"Kafka does not answer: {fault}.") from None

    def write(self, erasure: Erasure) -> None:
        self._transact(topics.ERASURES, list(starmap(Output, erasure_entries(erasure))))

    def write_progress(self, erasure: Erasure) -> None:
        """Write the progress alone, in the first portion; the other portions stay as last written."""
        self._transact(topics.ERASURES, [Output(*erasure_entries(erasure)[-1])])

    def write_erase_records(
        self, erasure: Erasure, identifiers: Iterable[str], kept_until: int
    ) -> None:
        """Tell the worker of each identifier to forget the person of `erasure.names`."""
        schema = avro.schemas()["Erase"]
        records = []
        for at in identifiers:
            for names in names_to_forget(at, erasure.names):
                erase = {
                    "workspace": erasure.workspace,
                    "identity_key": at,
                    "names": names,
                    "until": erasure.until,
                    "kept_until": kept_until,
                }
                key = workspace_key(erasure.workspace, at)
                records.append(Output(key, schema.encode(erase)))
        self._transact(topics.UNIQUE, records)

    def delete_merges(self, keys: Iterable[bytes]) -> None:
        """Delete the merges from every partition of `profiles`.

        A merge is in the partition of the worker that decided it, which its key does not tell.
        """
        gone = [Output(key, b"") for key in keys]
        partitions = self._within(lambda: self._transactions.partitions(topics.PROFILES))
        self._transact(topics.PROFILES, gone, partitions)

    def _transact(
        self, topic: str, outputs: list[Output], partitions: Iterable[int | None] = (None,)
    ) -> None:
        """Write to each of the partitions; `None`: the partition of each record's key."""

        def write() -> None:
            self._transactions.begin()
            for partition in partitions:
                self._transactions.write(topic, partition, outputs)
            self._transactions.commit()

        if outputs:
            self._within(write)

    def _within(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except KafkaException as fault:
            raise _away(fault) from None


def _away(fault: KafkaException) -> UnavailableError:
    return UnavailableError(f"Kafka does not answer: {fault.args[0]}.")
