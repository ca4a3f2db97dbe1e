"""The quick reader of accepted events says what the schema says, for every event in any order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.identifiers import workspace_key
from services.dedup.reader import RoutingReader
from tests.events import accepted, accepted_output

NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=80)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "received_at": st.integers(0, 2**45)
            | st.integers(1_700_000_000_000, 1_900_000_000_000),
            "source": st.sampled_from(["shop", "blog", "ø" * 40]),
            "workspace": st.sampled_from(["acme", "", "w" * 70]),
            "dedup_window_seconds": st.sampled_from([0, 63, 64, 86_400, 2**31 - 1]),
            "user_id": NAMES,
            "idempotency_key": NAMES.filter(bool),
        }
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=400, deadline=None)
@given(EVENTS)
def test_quick_and_thorough_reading_agree(sent: list[dict[str, object]]) -> None:
    reader = RoutingReader()
    for number, fields in enumerate(sent):
        record = accepted(number, **fields)
        output = accepted_output(record)
        identity = record["identity_key"]
        expected_key = workspace_key(record["workspace"], identity) if identity else b""
        assert reader.read(output.key, output.value) == (
            record["event_id"],
            record["payload_hash"],
            record["received_at"],
            record["source"],
            record["dedup_window_seconds"],
            expected_key,
        )
