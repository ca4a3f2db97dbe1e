"""Share the memory for request bodies between senders, so that no sender can take it all. Pure.

A sender that has shown a secret key uses the account of its source. It may hold at most as much as is
still free (the dynamic threshold of Choudhury and Hahne, 1998), so one source alone gets half of the
memory. When there is no room for a source that holds little, the source that holds most gives up the
body that it has been sending longest.

Every other sender is a stranger: it has shown no key yet, or a public key that web pages contain.
Strangers share a quarter of the memory, with a limit for each address. When a limit is reached, the body
that has been awaited longest gives way to the new one. So stalled bodies cost their senders, not others.
"""

from collections.abc import Callable

STRANGERS_PART = 4  # strangers share the limit divided by this
ADDRESS_PART = 4  # one address gets their share divided by this


class BodyAccount:
    """Bytes held by the requests of one source, or by those of the strangers at one address."""

    __slots__ = ("requests", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.requests = 0


class BodyBudget:
    """Bytes of bodies that may be in memory at once, over all requests of the process."""

    def __init__(self, limit: int, largest: int) -> None:
        """`largest`: bytes that one request may need; an address can always send one such request."""
        self.limit = limit
        self.taken = 0
        self.gave_way = 0  # bodies that gave up their memory to others, so far
        self.strangers = BodyAccount()
        self.strangers_limit = min(limit, max(limit // STRANGERS_PART, largest))
        self.address_limit = min(
            self.strangers_limit, max(self.strangers_limit // ADDRESS_PART, largest)
        )
        self._sources: dict[str, BodyAccount] = {}
        self._addresses: dict[str, BodyAccount] = {}
        self._awaited: dict[
            Reservation, None
        ] = {}  # requests with incomplete bodies, the longest awaited first

    def of_source(self, source_id: str) -> "Reservation":
        """Return the reservation of a request that has shown a secret key of the source."""
        return Reservation(self, self.source(source_id))

    def of_stranger(self, address: str) -> "Reservation":
        """Return the reservation of a request without a secret key, on the account of its address."""
        account = self._addresses.get(address)
        if account is None:
            account = self._addresses[address] = BodyAccount()
        account.requests += 1
        return Reservation(self, account, address)

    def source(self, source_id: str) -> BodyAccount:
        account = self._sources.get(source_id)
        if account is None:
            account = self._sources[source_id] = BodyAccount()
        return account

    def make_room(self, asker: "Reservation", size: int) -> bool:
        """Make awaited bodies give way until `size` more bytes fit; return False if they cannot fit now."""
        while (crowd := self._too_much(asker, size)) is not None:
            oldest = next((one for one in self._awaited if crowd(one)), None)
            if oldest is None or oldest is asker:
                return False
            self.gave_way += 1
            oldest.give_way()
        return True

    def _too_much(self, asker: "Reservation", size: int) -> "Callable[[Reservation], bool] | None":
        """Return None if there is room; else a predicate for the reservations that may have to give way."""
        account = asker.account
        wanted = account.taken + size
        free = self.limit - self.taken
        if not asker.is_stranger:
            return None if wanted <= free else self._largest_above(wanted)
        if wanted > self.address_limit:
            return lambda one: one.account is account
        if self.strangers.taken + size > self.strangers_limit:
            return lambda one: one.is_stranger
        return None if size <= free else self._largest_above(wanted)

    def _largest_above(self, wanted: int) -> "Callable[[Reservation], bool]":
        most = max((one.account.taken for one in self._awaited), default=0)
        return lambda one: one.account.taken == most > wanted

    def set_awaited(self, one: "Reservation", awaited: bool) -> None:
        if awaited:
            self._awaited[one] = None
        else:
            self._awaited.pop(one, None)

    def leave(self, address: str, account: BodyAccount) -> None:
        """Remove a stranger's request that has ended, or that belongs to a source from now on."""
        account.requests -= 1
        if not account.requests:
            del self._addresses[address]


class Reservation:
    """The memory of one request: `take` before it is used, `release` once the request is answered."""

    __slots__ = ("_address", "_budget", "_ended", "_give_way", "account", "taken")

    def __init__(
        self, budget: BodyBudget, account: BodyAccount, address: str | None = None
    ) -> None:
        """`address`: of a stranger; None: the account belongs to a source."""
        self.account = account
        self.taken = 0
        self._budget = budget
        self._address = address
        self._ended = False
        self._give_way: Callable[[], None] | None = None

    @property
    def is_stranger(self) -> bool:
        return self._address is not None

    def take(self, size: int) -> bool:
        """Reserve `size` more bytes; return False if the sender may not have them now."""
        if self._ended:
            return False
        budget, account = self._budget, self.account
        is_fair = self._address is None and account.taken + size <= budget.limit - budget.taken
        if not is_fair and not budget.make_room(self, size):
            return False
        self._add(size)
        return True

    def give_back(self, size: int) -> None:
        """Release `size` bytes before the request ends."""
        if not self._ended:
            self._add(-size)

    def release(self) -> None:
        """End the reservation. Nothing is held on return; a second call does nothing."""
        if self._ended:
            return
        self._add(-self.taken)
        self._leave_strangers()
        if self._give_way is not None:
            self._budget.set_awaited(self, False)
        self._ended = True

    def identify(self, source_id: str) -> None:
        """Move the held bytes to the account of the source, after the body has been read."""
        if self._address is None or self._ended:
            return
        held = self.taken
        self._add(-held)
        self._leave_strangers()
        self._address = None
        self.account = self._budget.source(source_id)
        self._add(held)

    def await_rest(self, give_way: Callable[[], None]) -> None:
        """Mark the body as incomplete and awaited; `give_way` is called if others need its memory."""
        self._give_way = give_way
        if not self._ended:
            self._budget.set_awaited(self, True)

    def stop_waiting(self) -> None:
        """Mark the body as no longer awaited: it is complete or abandoned."""
        self._give_way = None
        self._budget.set_awaited(self, False)

    def give_way(self) -> None:
        """End the reservation in favor of another request, and notify the reader of the body."""
        self.release()
        if self._give_way is not None:
            self._give_way()

    def _leave_strangers(self) -> None:
        if self._address is not None:
            self._budget.leave(self._address, self.account)

    def _add(self, size: int) -> None:
        self.taken += size
        self.account.taken += size
        self._budget.taken += size
        if self._address is not None:
            self._budget.strangers.taken += size
