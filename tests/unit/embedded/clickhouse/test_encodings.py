"""Content encodings unpack what they packed, within bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.embedded.clickhouse import encodings


def pack(name: str, pieces: list[bytes]) -> bytes:
    encoder = encodings.ENCODERS[name]()
    return b"".join([*(encoder.write(piece) for piece in pieces), encoder.finish()])


@given(name=st.sampled_from(sorted(encodings.ENCODERS)), pieces=st.lists(st.binary()))
def test_round_trip(name: str, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert encodings.decode(pack(name, pieces), name, len(whole)) == whole


@pytest.mark.parametrize("name", ["gzip", "deflate", "lz4", "zstd"])
def test_frames_one_after_the_other(name: str) -> None:
    packed = pack(name, [b"a" * 3000]) + pack(name, [b"b" * 5])
    assert encodings.decode(packed, name, 10_000) == b"a" * 3000 + b"b" * 5
    with pytest.raises(encodings.TooLarge):
        encodings.decode(packed, name, 3004)


@pytest.mark.parametrize("name", sorted(encodings.ENCODERS))
def test_bounds(name: str) -> None:
    packed = pack(name, [bytes(5_000_000)])
    assert len(encodings.decode(packed, name, 5_000_000)) == 5_000_000
    with pytest.raises(encodings.TooLarge):
        encodings.decode(packed, name, 4_999_999)


@pytest.mark.parametrize("name", sorted(encodings.ENCODERS))
def test_broken_and_cut_bodies(name: str) -> None:
    packed = pack(name, [bytes(range(256)) * 100])
    for broken in (packed[:-5], b"\xff\xfe" + packed, b"SELECT 1"):
        with pytest.raises(ValueError, match="not valid"):
            encodings.decode(broken, name, 1_000_000)


def test_unknown_encoding() -> None:
    with pytest.raises(encodings.UnknownEncoding):
        encodings.decode(b"x", "rot13", 10)
    assert encodings.decode(b"x", "identity", 10) == b"x"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("gzip, br", "gzip"),
        ("br;q=1.0, zstd", "zstd"),
        ("GZIP", "gzip"),
        ("lz4;q=0, gzip;q=0.5", "gzip"),
    ],
)
def test_choice(accept: str, chosen: str | None) -> None:
    assert encodings.choose(accept) == chosen
