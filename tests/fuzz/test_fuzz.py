"""The short cut of `make fuzz`: a little of every kind of input, and the gateway stands."""

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
def test_the_gateway_stands(ground: Ground, kind: Kind, seed: int) -> None:
    print(f"pytest tests/fuzz --seed {seed}")
    ground.place.forget_peak()
    assert kind.run(ground, seed, kind.short), "nothing was tried"
    ground.place.check_up()
    ground.check_room()


def test_what_was_taken_arrives(ground: Ground, seed: int) -> None:
    """Last: what the kinds before it had accepted."""
    print(f"pytest tests/fuzz --seed {seed}")
    assert arrive(ground)
