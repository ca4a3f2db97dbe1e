"""Content encodings decode what they encoded, within a size limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.embedded.clickhouse import encodings


def pack(name: str, pieces: list[bytes]) -> bytes:
    encoder = encodings.ENCODERS[name]()
    return b"".join([*(encoder.write(piece) for piece in pieces), encoder.finish()])


@given(name=st.sampled_from(sorted(encodings.ENCODERS)), pieces=st.lists(st.binary()))
def test_decoding_returns_the_bytes_that_were_encoded(name: str, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert encodings.decode(pack(name, pieces), name, len(whole)) == whole


@pytest.mark.parametrize("name", ["gzip", "deflate", "lz4", "zstd"])
def test_concatenated_frames_are_decoded_as_one_body(name: str) -> None:
    packed = pack(name, [b"a" * 3000]) + pack(name, [b"b" * 5])
    assert encodings.decode(packed, name, 10_000) == b"a" * 3000 + b"b" * 5
    with pytest.raises(encodings.TooLarge):
        encodings.decode(packed, name, 3004)


@pytest.mark.parametrize("name", sorted(encodings.ENCODERS))
def test_a_body_above_the_size_limit_is_rejected(name: str) -> None:
    packed = pack(name, [bytes(5_000_000)])
    assert len(encodings.decode(packed, name, 5_000_000)) == 5_000_000
    with pytest.raises(encodings.TooLarge):
        encodings.decode(packed, name, 4_999_999)


@pytest.mark.parametrize("name", sorted(encodings.ENCODERS))
def test_a_broken_or_truncated_body_is_rejected(name: str) -> None:
    packed = pack(name, [bytes(range(256)) * 100])
    for broken in (packed[:-5], b"\xff\xfe" + packed, b"SELECT 1"):
        with pytest.raises(ValueError, match="not valid"):
            encodings.decode(broken, name, 1_000_000)


def test_an_unknown_content_encoding_is_rejected() -> None:
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
def test_choose_picks_a_supported_encoding_from_accept_encoding(
    accept: str, chosen: str | None
) -> None:
    assert encodings.choose(accept) == chosen
