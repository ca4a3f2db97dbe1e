"""Lowest-priority connections are closed first at a limit, as are those with the most unread bytes."""

from collections.abc import Callable

from weir.gateway.http.connection_limits import ConnectionPriority, ConnectionSlots, ReadAhead


class Peer:
    def __init__(
        self,
        standing: ConnectionPriority = ConnectionPriority.IDLE,
        since: float = 0,
        unread: int = 0,
    ) -> None:
        self.standing = standing
        self.quiet_since = since
        self.unread = unread
        self.closed = False
        self.held = False

    def give_up(self) -> None:
        self.closed = True

    def hold(self) -> None:
        self.held = True

    def go_on(self) -> None:
        self.held = False


def test_an_address_at_its_limit_closes_its_own_oldest_connection() -> None:
    places = ConnectionSlots(1_000, 2)
    first, second, third = (Peer(since=n) for n in range(3))
    elsewhere = Peer(since=-1)
    assert places.enter(elsewhere, "10.0.0.2")
    assert all(places.enter(peer, "10.0.0.1") for peer in (first, second, third))
    assert [peer.closed for peer in (elsewhere, first, second, third)] == [
        False,
        True,
        False,
        False,
    ]
    assert len(places) == 3


def test_the_lowest_priority_connection_closes_first_and_a_waiting_one_never() -> None:
    places = ConnectionSlots(1_000, 4)
    peers = [Peer(standing, since=9 - standing) for standing in ConnectionPriority]
    for peer in peers:
        assert places.enter(peer, "10.0.0.1")
    late = [Peer(ConnectionPriority.WAITING) for _ in range(4)]
    assert [places.enter(peer, "10.0.0.1") for peer in late] == [True, True, True, False]
    assert [peer.closed for peer in peers] == [True, True, True, False]
    assert (places.closed, places.refused) == (3, 1)


def test_trusted_proxies_have_only_the_total_connection_limit() -> None:
    places = ConnectionSlots(128, 2)
    peers = [Peer(since=n) for n in range(200)]
    assert all(places.enter(peer, "") for peer in peers)
    assert len(places) <= 128
    assert not any(peer.closed for peer in peers[100:])


def test_leaving_a_connection_slot_twice_counts_once() -> None:
    places = ConnectionSlots(10, 2)
    peer = Peer()
    places.enter(peer, "10.0.0.1")
    places.leave(peer)
    places.leave(peer)
    assert len(places) == 0


class Loop:
    """What is due later, until it is run."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []

    def later(self, one: Callable[[], object]) -> None:
        self.due.append(one)

    def turn(self) -> None:
        due, self.due = self.due, []
        for one in due:
            one()


def test_reading_pauses_at_the_limit_until_requests_consume_unread_bytes() -> None:
    loop = Loop()
    read_ahead = ReadAhead(100, loop.later)
    peers = [Peer(unread=60), Peer(unread=60), Peer()]
    read_ahead.connections = peers
    for peer in peers:
        read_ahead.change(peer.unread)
    assert all(peer.held for peer in peers)
    loop.turn()
    peers[0].unread = 0  # its request has run
    read_ahead.change(-60)
    loop.turn()
    assert not any(peer.held or peer.closed for peer in peers)
    assert read_ahead.taken == 60


def test_connections_are_closed_when_unread_bytes_stay_above_the_limit() -> None:
    loop = Loop()
    read_ahead = ReadAhead(100, loop.later)
    waiting = Peer(ConnectionPriority.WAITING, unread=60)
    large, small = Peer(unread=50), Peer(unread=20)
    read_ahead.connections = [waiting, large, small]
    for peer in (waiting, large, small):
        read_ahead.change(peer.unread)
    loop.turn()
    loop.turn()
    assert (large.closed, small.closed, waiting.closed) == (True, True, True)
    assert read_ahead.taken == 0
    assert read_ahead.closed == 3
