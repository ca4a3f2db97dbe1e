"""The kinds of input, how each is tried, and what must hold of every one."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz import attacks, document, inputs, streams
from tests.fuzz.explore import explore
from tests.fuzz.golden import Sent
from tests.fuzz.inside import Inside
from tests.fuzz.oracle import ACCEPTED, check_answer, check_documented, check_record, read_answers
from tests.fuzz.place import HANG_SECONDS, INFLIGHT_KILOBYTES, Place
from tests.fuzz.rules import LAST, RULES
from tests.fuzz.sources import KEY
from weir.adapters.kafka.search import QUEUE_KILOBYTES
from weir.core import topics
from weir.core.identifiers import dedup_key
from weir.gateway.api.finding import THREADS as SEARCHES
from weir.gateway.ingest.producer import KafkaRecord
from weir.gateway.ingest.validation import MAX_CHARACTERS
from weir.settings.gateway import GatewaySettings

CAP = GatewaySettings().gateway_max_body_bytes
# What the gateway may take beyond what it has at rest: six times the bodies that it may hold, for what
# is made of them, and for each search for an event what is read ahead and what is looked at.
BODIES_MIB = 6 * INFLIGHT_KILOBYTES / 1024
SEARCHES_MIB = SEARCHES * 2 * QUEUE_KILOBYTES / 1024
ROOM_MIB = BODIES_MIB + SEARCHES_MIB
KEPT = 20_000  # accepted events that are stored at the end
# How a request says that it is the key's, with the doors that know it so: then the key must not be
# in what is kept of it. Who sends it elsewhere, in a body, has said it to a door that knows no keys.
CLAIMS = {
    f"X-Weir-Key: {KEY}": "/",
    f"Authorization: Bearer {KEY}": "/",
    f"Authorization: {KEY}:": "/v2/",
}


@dataclass
class Ground:
    """Where inputs are tried: a gateway inside of this process, and a whole Weir around one."""

    inside: Inside
    place: Place
    rest_mib: float = 0.0
    kept: list[KafkaRecord] = field(default_factory=list)

    def check_room(self) -> float:
        """The gateway's peak memory in MiB; `AssertionError` if it is more than it may be."""
        peak = self.place.peak_mib()
        most = self.rest_mib + ROOM_MIB
        assert peak <= most, f"{peak:.0f} MiB, where {most:.0f} MiB were to be enough"
        return peak

    def keep(self, records: Sequence[KafkaRecord]) -> None:
        room = KEPT - len(self.kept)
        self.kept += [one for one in records if one[0] == topics.ACCEPTED][: max(0, room)]


class Kind(NamedTuple):
    """`run(ground, seed, amount)` says how many inputs it tried; an exception: one failed."""

    name: str
    run: Callable[[Ground, int, int], int]
    short: int  # amount in the short cut
    long: int  # amount in a round of the long run


def _one_request(strategy: SearchStrategy[Sent]) -> Callable[[Ground, int, int], int]:
    """Each alone on its connection, in this process: one answer, as documented, and sound records."""

    def run(ground: Ground, number: int, amount: int) -> int:
        def check(sent: Sent) -> None:
            raw = sent.raw()
            received, records = ground.inside.exchange([raw])
            answers = read_answers(received, [sent.method])
            assert len(answers) == 1, f"{len(answers)} answers: {received[:500]!r}"
            check_answer(answers[0])
            check_documented(sent.method, sent.path, answers[0])
            head = raw.partition(b"\r\n\r\n")[0].decode("latin-1")
            claimed = any(
                claim in head and sent.path.startswith(doors) for claim, doors in CLAIMS.items()
            )
            for record in records[:50]:
                check_record(record, KEY if claimed else "")
            ground.keep(records[:50])

        return explore(strategy, check, lambda sent: [sent.raw()], number, amount)

    return run


def _streams_inside(ground: Ground, number: int, amount: int) -> int:
    """Connections with whatever on them, in this process: well-formed answers, no fault, no leak."""

    def check(pieces: list[bytes]) -> None:
        received, records = ground.inside.exchange(pieces)
        if b"HEAD" not in b"".join(pieces):  # whose answers have no bodies
            for answer in read_answers(received, []):
                check_answer(answer)
        for record in records:
            check_record(record)

    return explore(streams.streams(), check, lambda pieces: pieces, number, amount)


class Client(NamedTuple):
    """What a client sends, and whether it hears the answers out or hangs up, politely or not."""

    pieces: list[bytes]
    patience: str


_clients = st.builds(
    Client, streams.streams(), st.sampled_from(["hears out", "closes", "closes", "resets"])
)


def _streams_sent(ground: Ground, number: int, amount: int) -> int:
    """The same over real sockets, several at once, with clients that leave in the middle."""
    tried = 0

    def check(clients: list[Client]) -> None:
        nonlocal tried
        tried += len(clients)
        asyncio.run(_meet(ground.place, clients))

    def pieces(clients: list[Client]) -> list[bytes]:
        return [piece for client in clients for piece in client.pieces]

    explore(st.lists(_clients, min_size=1, max_size=60), check, pieces, number, amount)
    return tried


async def _meet(place: Place, clients: Sequence[Client]) -> None:
    await asyncio.gather(*(_talk(place.port, client) for client in clients))


async def _talk(port: int, client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    with suppress(ConnectionError):  # the gateway need not hear out what it has refused
        for piece in client.pieces:
            writer.write(piece)
            await writer.drain()
        if client.patience == "hears out":
            writer.write(LAST)
            async with asyncio.timeout(HANG_SECONDS):
                while part := await reader.read(65_536):
                    received += part
    if client.patience == "resets":
        writer.transport.abort()
    writer.close()
    if b"HEAD" not in b"".join(client.pieces):
        for answer in read_answers(received, []):
            check_answer(answer)


def _rules(ground: Ground, _number: int, _amount: int) -> int:
    """Every rule at the real gateway, each in one packet."""
    wrong = []
    for name, (raw, statuses) in RULES.items():
        answers = read_answers(ground.place.exchange([raw + LAST]), [], continues=True)
        if [answer.status for answer in answers] != statuses:
            wrong.append(f"{name}: {answers}")
    assert not wrong, "\n".join(wrong)
    return len(RULES)


def _hang_ups(ground: Ground, number: int, amount: int) -> int:
    """Clients gone after any byte of a request, of each shape: every `amount`-th byte a round."""
    raws = [raw for raw, statuses in RULES.values() if statuses[0] == 202 and len(raw) < 2_000]
    ends = [raw[:end] for raw in raws for end in range(1 + number % amount, len(raw), amount)]
    for start in range(0, len(ends), 50):
        clients = [
            Client([end], "closes" if len(end) % 2 else "resets") for end in ends[start:][:50]
        ]
        asyncio.run(_meet(ground.place, clients))
    return len(ends)


def _crawl(ground: Ground, _number: int, amount: int) -> int:
    return attacks.crawl(ground.place, amount)


def _bombard(ground: Ground, _number: int, amount: int) -> int:
    return attacks.bombard(ground.place, amount)


def _conform(ground: Ground, number: int, amount: int) -> int:
    return document.conform(ground.place, number, amount)


KINDS = (
    Kind("requests", _one_request(inputs.requests()), 200, 2_000),
    Kind("odd events", _one_request(inputs.odd_events()), 100, 800),
    Kind("compressed bodies", _one_request(inputs.compressed()), 100, 800),
    Kind("large bodies", _one_request(inputs.large(CAP)), 40, 250),
    Kind("broken connections", _streams_inside, 80, 800),
    Kind("the OpenAPI document", _conform, 1, 12),
    Kind("rules of HTTP", _rules, 1, 1),
    Kind("broken connections, sent", _streams_sent, 20, 60),
    Kind("clients that hang up", _hang_ups, 7, 3),
    Kind("slow clients", _crawl, 3, 40),
    Kind("bombs", _bombard, 8, 64),
)


def arrive(ground: Ground) -> int:
    """Every event that a kind had accepted in this process is stored by the real Weir, none dies.

    Each gets a key of its own, so that none is a repeat.
    """
    records = [_with_own_key(value) for _, _, value in ground.kept if value is not None]
    before = ground.place.stored()
    ground.place.write(records, time.time_ns() // 1_000_000)
    stored = ground.place.stored() - before
    assert stored == len(records), f"{stored:,} of {len(records):,} events are stored"
    return stored


def _with_own_key(value: bytes) -> KafkaRecord:
    event = ACCEPTED.decode(value)
    own = event["event_id"].hex()
    event["idempotency_key"] = event["idempotency_key"][: MAX_CHARACTERS - len(own)] + own
    event["saved"] = True  # it is to be a row, whatever its sender wished
    return (
        topics.ACCEPTED,
        dedup_key(event["source"], event["idempotency_key"]),
        ACCEPTED.encode(event),
    )
