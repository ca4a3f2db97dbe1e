"""A batch's fingerprint depends on its events' ids and not on their order."""

from hypothesis import given
from hypothesis import strategies as st

from weir.core.batch import id_checksum

HEAD, HALF = st.binary(min_size=8, max_size=8), st.integers(0, (1 << 64) - 1)


@given(st.lists(st.tuples(HEAD, HALF)), st.sampled_from([b"", bytes(16)]))
def test_the_checksum_of_ids_is_the_sum_of_their_second_halves_in_any_order(
    ids: list[tuple[bytes, int]], behind: bytes
) -> None:
    values = [head + half.to_bytes(8) + behind for head, half in ids]
    assert id_checksum(values) == sum(half for _, half in ids)
    assert id_checksum(values[::-1]) == id_checksum(values)
