"""Event name casing recognises each casing, abbreviations, digits and scripts without case."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.core.registry import Casing, Source
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, RequestRecords, build_records
from weir.gateway.ingest.event_name_case import SEPARATORS, is_cased
from weir.gateway.ingest.parsed_events import ParsedEvent, ParsedEvents
from weir.gateway.ingest.validation import Policy, SentEvent

CASINGS: tuple[Casing, ...] = get_args(Casing)
TITLE, CAMEL, SNAKE, KEBAB = CASINGS


def casings_of(name: str) -> set[Casing]:
    return {casing for casing in CASINGS if is_cased(name, casing)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PlanUpgraded", {TITLE}),
        ("planUpgraded", {CAMEL}),
        ("plan_upgraded", {SNAKE}),
        ("plan-upgraded", {KEBAB}),
        ("signup", {CAMEL, SNAKE, KEBAB}),
        ("Signup", {TITLE}),
        ("Plan_Upgraded", set()),
        ("plan-Upgraded", set()),
        ("plan_up-graded", set()),
        ("plan.upgraded", set()),
        ("_signup", set()),
        ("signup-", set()),
        ("sign__up", set()),
        ("_", set()),
    ],
)
def test_a_name_matches_only_the_casings_it_is_written_in(name: str, expected: set[Casing]) -> None:
    assert casings_of(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("HTTPRequest", {TITLE}),
        ("OpenPDF", {TITLE}),
        ("FAQ", {TITLE}),
        ("parseHTML", {CAMEL}),
        ("userIDChanged", {CAMEL}),
        ("user_ID", set()),
        ("user-ID", set()),
    ],
)
def test_consecutive_capitals_count_as_an_abbreviation_in_title_and_camel_case(
    name: str, expected: set[Casing]
) -> None:
    assert casings_of(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("top10", {CAMEL, SNAKE, KEBAB}),
        ("Top10Seen", {TITLE}),
        ("2faEnabled", {CAMEL}),
        ("2FaEnabled", {TITLE}),
        ("2fa_enabled", {SNAKE}),
        ("404", set(CASINGS)),
    ],
)
def test_digits_match_any_casing(name: str, expected: set[Casing]) -> None:
    assert casings_of(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("größe_geändert", {SNAKE}),
        ("Größe_geändert", set()),
        ("ÜbersichtGeöffnet", {TITLE}),
        ("übersichtGeöffnet", {CAMEL}),
        ("주문_완료", {SNAKE}),
        ("주문완료", set(CASINGS)),
        ("ऑर्डर-पूरा", {KEBAB}),
        ("cafe\u0301-opened", {KEBAB}),
    ],
)
def test_casing_applies_to_letters_of_any_script(name: str, expected: set[Casing]) -> None:
    assert casings_of(name) == expected


WORDS = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=2, max_size=5)


@given(WORDS.filter(lambda words: words[0] != "ss"))  # `ss_…` is Weir's own
def test_words_joined_in_one_casing_match_no_other_casing(words: list[str]) -> None:
    title = "".join(word.capitalize() for word in words)
    assert casings_of(title) == {TITLE}
    assert casings_of(title[0].lower() + title[1:]) == {CAMEL}
    for casing, separator in SEPARATORS.items():
        assert casings_of(separator.join(words)) == {casing}


def take_names(
    source: Source, *names: str, uncased: frozenset[str] = frozenset()
) -> RequestRecords:
    events = ParsedEvents(
        [ParsedEvent(b"{}", SentEvent(name)) for name in names],
        policy=Policy(uncased_names=uncased),
    )
    return build_records(
        events, source, RecordContext(SourceFields.of(source), 0, Client("d", "", ""))
    )


@pytest.mark.parametrize("enforced", [False, True])
def test_names_set_by_the_client_library_are_exempt_from_casing(enforced: bool) -> None:
    source = Source(id="s", event_casing=TITLE, enforce_casing=enforced)
    records = take_names(source, "page_view", "$identify", uncased=frozenset({"page_view"}))
    assert (len(records.event_ids), records.refused, records.warnings) == (2, [], [])


def test_a_source_without_a_casing_accepts_any_event_name() -> None:
    records = take_names(Source(id="s"), "a-b", "A_b", "aB")
    assert (len(records.event_ids), records.refused, records.warnings) == (3, [], [])
