"""The sink is unready while records wait without an insert finishing, and ready otherwise."""

from tests.property.test_sink import HEADERS, PLACES, Clock, Fuse, Member
from tests.support.running import wait_until
from weir.adapters.memory_sink import MemoryTopics, MemoryWarehouse
from weir.runtime.stall_watch import STALLED_SECONDS
from weir.sink.partition import Limits

PLACE = PLACES[0]


def test_the_sink_is_unready_while_an_insert_hangs() -> None:
    log, warehouse = MemoryTopics(), MemoryWarehouse(lambda value: False)
    clock = Clock()
    member = Member(log, warehouse, Fuse(), Limits(0.0, 100, 1_000_000), clock)
    member.records.assign({PLACE})

    def turns(count: int) -> str:
        for _ in range(count):
            clock.now += 1
            member.sink.turn()
        return member.sink.health.why_unready

    assert turns(2 * int(STALLED_SECONDS)) == ""  # idle
    log.write(PLACE, HEADERS[0] + b"1")
    # started, and never told to be finished: as an insert that hangs
    wait_until(lambda: "while 1 records wait" in turns(int(STALLED_SECONDS)), 20, "the report")
    member.inserts.run()
    turns(3)
    assert member.sink.health.why_unready == ""
