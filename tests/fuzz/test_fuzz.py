"""The gateway survives a little of every kind of fuzzed input: `make fuzz` in short."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.fuzz.inside import Inside
from tests.fuzz.kinds import KINDS, Ground, Kind, arrive
from tests.fuzz.place import Place
from tests.fuzz.sources import FUZZ

pytestmark = pytest.mark.timeout(1_800)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Place(tmp_path_factory.mktemp("fuzz")) as place, closing(Inside([FUZZ])) as inside:
        place.begin()
        place.check_up()
        yield Ground(inside, place, place.peak_mib())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_gateway_stays_up_and_within_memory_under_fuzzed_input(
    ground: Ground, kind: Kind, seed: int
) -> None:
    print(f"pytest tests/fuzz --seed {seed}")
    ground.place.forget_peak()
    assert kind.run(ground, seed, kind.short), "nothing was tried"
    ground.place.check_up()
    ground.check_room()


def test_every_event_accepted_during_fuzzing_is_stored(ground: Ground, seed: int) -> None:
    """This runs last and covers the events that all kinds of input had accepted."""
    print(f"pytest tests/fuzz --seed {seed}")
    assert arrive(ground)
