"""The body budget limits each source and address, and released memory always returns to it."""

from hypothesis import given
from hypothesis import strategies as st

from weir.gateway.http.body_budget import BodyBudget, Reservation

MIB = 1 << 20
LARGEST = 4 * MIB


def waiting(reservation: Reservation, size: int, gone: list[Reservation]) -> Reservation:
    """A request whose body stalls after `size` bytes; in `gone` once it had to give way."""
    reservation.await_rest(lambda: gone.append(reservation))
    reservation.take(size)
    return reservation


def test_one_source_gets_at_most_half_and_other_sources_still_get_memory() -> None:
    budget = BodyBudget(64 * MIB, LARGEST)
    held = [budget.of_source("greedy") for _ in range(64)]
    taken = sum(one.take(2 * MIB) for one in held)
    assert taken == 16  # 32 of 64 MiB
    assert budget.of_source("other").take(2 * MIB)


def test_a_new_source_gets_memory_however_many_sources_fill_their_share() -> None:
    budget = BodyBudget(64 * MIB, LARGEST)
    gone: list[Reservation] = []
    for source in range(30):
        for _ in range(64):
            waiting(budget.of_source(f"greedy-{source}"), MIB, gone)
    assert budget.of_source("small").take(MIB)
    assert budget.of_stranger("10.0.0.1").take(MIB)


def test_unidentified_clients_share_a_quarter_and_each_address_part_of_it() -> None:
    budget = BodyBudget(64 * MIB, LARGEST)
    gone: list[Reservation] = []
    for address in range(20):
        for _ in range(36):
            waiting(budget.of_stranger(f"10.0.0.{address}"), 2 * MIB - 1, gone)
    assert budget.taken <= 16 * MIB
    assert budget.of_source("good").take(32 * MIB)
    alone = BodyBudget(64 * MIB, LARGEST)
    for _ in range(36):
        waiting(alone.of_stranger("10.0.0.1"), 2 * MIB - 1, gone)
    assert alone.taken <= 4 * MIB


def test_the_longest_stalled_body_is_evicted_for_the_next_of_the_same_address() -> None:
    budget = BodyBudget(64 * MIB, LARGEST)
    gone: list[Reservation] = []
    first, second = (waiting(budget.of_stranger("10.0.0.1"), 2 * MIB, gone) for _ in range(2))
    elsewhere = waiting(budget.of_stranger("10.0.0.2"), 2 * MIB, gone)
    late = budget.of_stranger("10.0.0.1")
    assert late.take(1_000)
    assert gone == [first]
    assert not first.take(1)
    assert (second.taken, elsewhere.taken) == (2 * MIB, 2 * MIB)


def test_a_complete_body_is_never_evicted() -> None:
    budget = BodyBudget(64 * MIB, LARGEST)
    whole = [budget.of_stranger("10.0.0.1") for _ in range(2)]
    assert all(one.take(2 * MIB) for one in whole)
    assert not budget.of_stranger("10.0.0.1").take(1)


def test_an_identified_request_no_longer_counts_as_unidentified() -> None:
    budget = BodyBudget(64 * MIB, LARGEST)
    one = budget.of_stranger("10.0.0.1")
    assert one.take(4 * MIB)
    one.identify("shop")
    assert budget.strangers.taken == 0
    assert budget.of_stranger("10.0.0.1").take(4 * MIB)
    assert one.take(1)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["take", "wait", "stop", "name", "end"]),
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(STEPS)
def test_limits_hold_and_all_memory_is_released_in_any_order_of_steps(
    steps: list[tuple[int, str, int]],
) -> None:
    budget = BodyBudget(64, 4)
    made = [
        budget.of_source("a"),
        budget.of_source("b"),
        *(budget.of_stranger(name) for name in ("x", "x", "y", "z")),
    ]
    for which, step, size in steps:
        one = made[which]
        if step == "take":
            one.take(size)
        elif step == "wait":
            one.await_rest(lambda: None)
        elif step == "stop":
            one.stop_waiting()
        elif step == "name":
            one.identify("a")
        else:
            one.release()
        assert budget.taken == sum(each.taken for each in made) <= budget.limit
        assert budget.strangers.taken <= budget.strangers_limit
    for one in made:
        one.release()
    assert budget.taken == budget.strangers.taken == 0
    assert not budget._addresses
