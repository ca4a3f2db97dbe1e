"""Hold records back until their schemas are known, including schemas of other versions of Weir."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from weir.runtime.ports import StreamBrokenError
from weir.runtime.sink_ports import Commit, PartitionId, Polled, Records

HEADER_BYTES = 10
PAUSE_SECONDS = 0.5
NOTHING = Polled(set(), [], [])

Know = Callable[[Iterable[bytes | None]], None]  # `StreamBrokenError` if unavailable now


class KnownRecords:
    """A `weir.runtime.sink_ports.Records` that calls `know` with the headers of records before it returns them."""

    def __init__(self, records: Records, know: Know) -> None:
        self._records = records
        self._know = know
        self._kept: Polled | None = None
        self.trouble = records.trouble

    def poll(self, seconds: float, gather: bool) -> Polled:
        polled = self._kept or self._records.poll(seconds, gather)
        values = (v for slice_ in polled.slices for v in slice_.records.values if v)
        try:
            self._know({value[:HEADER_BYTES] for value in values})
        except StreamBrokenError as fault:
            self._kept, self.trouble = polled, str(fault)
            time.sleep(min(seconds, PAUSE_SECONDS))
            return NOTHING
        self._kept, self.trouble = None, self._records.trouble
        return polled

    def commit(self, commits: Sequence[Commit]) -> None:
        self._records.commit(commits)

    def hold(self, places: Collection[PartitionId]) -> None:
        self._records.hold(places)

    def lag(self) -> Mapping[PartitionId, int]:
        return self._records.lag()

    def close(self) -> None:
        self._records.close()
