"""Limit the connections of a process, and the bytes that they have received and no request has read. Pure.

Connections are never refused because others are idle or slow: at a limit the connection with the lowest
priority is closed.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from heapq import nsmallest
from typing import Protocol

SMALL_BYTES = 16 * 1024
CLOSED_AT_ONCE = 64  # at the total limit, one in this many is closed, so that the search is rare


class ConnectionPriority(IntEnum):
    """How much a connection deserves its place. The lowest priority is closed first."""

    IDLE = 0  # it has no request with a complete head
    STRANGER = 1  # it sends a body, and its source is not known
    SENDER = 2  # it sends a body of a known source, or reads its answer
    WAITING = 3  # its request is complete and waits: `ConnectionSlots` does not close it


class Peer(Protocol):
    """The part of a connection that the limits use."""

    standing: ConnectionPriority
    unread: int  # bytes received that no request has taken

    @property
    def quiet_since(self) -> float:
        """When it was opened or last answered, plus a constant: only the order matters."""

    def give_up(self) -> None:
        """Close the connection at once, and discard what is unsent."""

    def hold(self) -> None:
        """Stop receiving for now."""

    def go_on(self) -> None:
        """Receive again."""


class ConnectionSlots:
    """The places for connections, limited in total and for each address."""

    def __init__(self, limit: int, address_limit: int) -> None:
        self.limit = limit
        self.address_limit = address_limit
        self.closed = 0  # connections that were closed to make room, so far
        self.refused = 0  # connections that found no room, so far
        self._all: dict[Peer, str] = {}
        self._by_address: dict[str, dict[Peer, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._all)

    def enter(self, peer: Peer, address: str) -> bool:
        """Give a connection a place, closing others if needed; return False if there is none.

        An empty `address` has no limit of its own.
        """
        if len(self._all) >= self.limit:
            self._close(self._all, max(1, self.limit // CLOSED_AT_ONCE))
        same = self._by_address.get(address, {})
        if address and len(same) >= self.address_limit:
            self._close(same, 1)
        if len(self._all) >= self.limit or (address and len(same) >= self.address_limit):
            self.refused += 1
            return False
        self._all[peer] = address
        self._by_address.setdefault(address, {})[peer] = None
        return True

    def leave(self, peer: Peer) -> None:
        """Free the connection's place, if it has one."""
        address = self._all.pop(peer, None)
        if address is None:
            return
        same = self._by_address[address]
        del same[peer]
        if not same:
            del self._by_address[address]

    def _close(self, among: Iterable[Peer], count: int) -> None:
        least = nsmallest(
            count,
            (peer for peer in among if peer.standing < ConnectionPriority.WAITING),
            key=lambda peer: (peer.standing, peer.quiet_since),
        )
        for peer in least:
            self.closed += 1
            self.leave(peer)
            peer.give_up()


class ReadAhead:
    """Bytes that all connections have received and that no request has taken yet.

    An event loop delivers the data of all sockets before any request runs. At the limit no socket is read
    until requests have taken what is there. Bytes that are left even then belong to connections that make
    no progress (heads that never end, requests queued behind requests): those are closed.
    """

    def __init__(self, limit: int, later: Callable[[Callable[[], object]], object]) -> None:
        """`later` calls a function after everything that is due now has run."""
        self.limit = limit
        self.taken = 0
        self.is_holding = False
        self.closed = 0
        self.connections: Iterable[Peer] = ()
        self._later = later

    def takes(self, size: int) -> bool:
        """Count `size` received bytes; return False if the total then exceeds twice the limit.

        Only a new connection can cause that, as it was not held yet. A small part is always taken.
        """
        self.change(size)
        return size <= SMALL_BYTES or self.taken <= 2 * self.limit

    def change(self, size: int) -> None:
        self.taken += size
        if self.taken > self.limit and not self.is_holding:
            self.is_holding = True
            for peer in self.connections:
                peer.hold()
            # two loop iterations: requests that are due run in the first, what they wake in the second
            self._later(lambda: self._later(self._go_on))

    def _go_on(self) -> None:
        if self.taken > self.limit:
            self._close()
        self.is_holding = False
        for peer in list(self.connections):
            peer.go_on()

    def _close(self) -> None:
        """Close connections down to half the limit: most unread bytes first, those that wait for an answer last."""
        most = sorted(
            self.connections,
            key=lambda peer: (peer.standing == ConnectionPriority.WAITING, -peer.unread),
        )
        for peer in most:
            if self.taken <= self.limit // 2:
                break
            self.closed += 1
            self.taken -= peer.unread
            peer.unread = 0
            peer.give_up()
