"""The fast reader of accepted events returns what the schema says, for every event in any order."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import accepted, accepted_output
from tests.support.profiles import examples
from weir.core.batch import Output
from weir.core.identifiers import PUBLIC_MARK, workspace_key
from weir.dedup.reader import RoutingFieldsReader
from weir.dedup.step import RoutingFields

NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=80)
LONG_NAMES = st.sampled_from([64, 127, 128, 8_191, 8_192, 9_000]).map("x".__mul__)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "received_at": st.integers(0, 2**45)
            | st.integers(1_700_000_000_000, 1_900_000_000_000)
            | st.integers(0, 2**63 - 1),
            "source": st.sampled_from(["shop", "blog", "ø" * 40]),
            "workspace": st.sampled_from(["acme", "", "w" * 70]),
            "dedup_window_seconds": st.sampled_from([0, 63, 64, 86_400, 2**31 - 1]),
            "user_id": NAMES | LONG_NAMES,
            "idempotency_key": NAMES.filter(bool) | LONG_NAMES,
        }
    ),
    min_size=1,
    max_size=20,
)


def read_or_fault(reader: RoutingFieldsReader, output: Output) -> RoutingFields | type[ValueError]:
    arrivals, faults = reader.read([output.key], [output.value])
    # the type alone: a fault's text may name a buffer by its address
    return arrivals[0] if arrivals else type(faults[0])


@examples(400)
@given(EVENTS)
def test_the_fast_reader_returns_the_fields_of_every_accepted_event(
    sent: list[dict[str, object]],
) -> None:
    reader = RoutingFieldsReader()
    for number, fields in enumerate(sent):
        record = accepted(number, **fields)
        identity = record["identity_key"]
        record["identity_key"] = PUBLIC_MARK * (number % 2) + identity
        output = accepted_output(record)
        expected_key = workspace_key(record["workspace"], identity) if identity else b""
        assert read_or_fault(reader, output) == (
            output.key,
            record["event_id"] + record["payload_hash"],
            record["received_at"],
            record["source"],
            record["dedup_window_seconds"],
            expected_key,
        )


@examples(400)
@given(EVENTS, st.data())
def test_an_experienced_and_a_new_reader_agree_on_truncated_records(
    sent: list[dict[str, object]], data: st.DataObject
) -> None:
    experienced = RoutingFieldsReader()
    for number, fields in enumerate(sent):
        output = accepted_output(accepted(number, **fields))
        experienced.read([output.key], [output.value])
        size = data.draw(st.integers(0, len(output.value)) | st.integers(0, 200))
        cut = Output(output.key, output.value[:size])
        assert read_or_fault(experienced, cut) == read_or_fault(RoutingFieldsReader(), cut)
