"""Tracardi payloads get replies of what the workers did, and only events to be saved become rows."""

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.running import wait_until
from tests.support.running_weir import RunningWeir, stopped

SOURCE = "tracardi"
SOURCES = f"sources: {{{SOURCE}: {{workspace: {SOURCE}, open_by_id: true}}}}"
PATIENCE = 60
TRIES = 20
UNHEARD = "no result yet"


def track(weir: RunningWeir, path: str = "/track", **members: Any) -> Any:
    """The reply to a payload; how long it took is printed."""
    payload = {"source": {"id": SOURCE}, "session": {"id": str(uuid.uuid4())}} | members
    request = urllib.request.Request(
        weir.gateway + path,
        json.dumps(payload).encode(),
        {"Content-Type": "application/json"},
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
        reply = json.load(answer)
    print(f"{path} {payload.get('options', {})}: {time.perf_counter() - began:.3f} s")
    return reply


def heard(track_all: Callable[[], list[Any]]) -> list[Any]:
    """What `track_all` gives once the workers were heard in time: on a busy machine they may need longer."""
    for _ in range(TRIES):
        replies = track_all()
        if not any(
            UNHEARD in warning for reply in replies for warning in reply.get("warnings", [])
        ):
            break
    return replies


def knows(weir: RunningWeir) -> bool:
    try:
        return bool(track(weir, events=[{"type": "first"}]))
    except urllib.error.HTTPError:
        return False


@pytest.fixture(scope="module", autouse=True)
def declared(weir: RunningWeir, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("tracardi") / "sources.yaml"
    file.write_text(SOURCES)
    applied = weir.run("apply", str(file))
    assert applied.returncode == 0, applied.stdout + applied.stderr
    wait_until(lambda: knows(weir), PATIENCE, "the source")


ORDER = {"type": "purchase-order", "properties": {"product": "Nike shoes", "quantity": 1}}
VIEW = {"type": "page-view"}


def test_track_returns_debugger_and_full_profile_for_a_new_and_a_known_profile(
    weir: RunningWeir,
) -> None:
    options = {"debugger": True, "profile": True}
    traits = {"type": "$identify", "properties": {"name": "Ada"}}

    session = ""

    def both() -> list[Any]:
        nonlocal session
        session = str(uuid.uuid4())
        new = track(weir, session={"id": session}, events=[ORDER, VIEW], options=options)
        profile = {"id": new["profile"]["id"]}
        return [new, track(weir, profile=profile, events=[traits], options=options)]

    new, known = heard(both)
    profile = new["profile"]["id"]
    assert uuid.UUID(profile).version == 4
    assert (new["profile"]["events"], new["profile"]["sessions"]) == (2, 1)
    assert new["profile"]["session"]["id"] == session
    debugging = new["debugging"]
    assert (debugging["profile"]["saved"], debugging["profile"]["ids"]) == (1, [profile])
    assert (debugging["session"]["saved"], debugging["session"]["ids"]) == (1, [session])
    assert sorted(debugging["events"]["types"]) == ["page-view", "purchase-order"]
    assert debugging["logs"] == [f"Profile {profile} is new.", f"Session {session} is new."]
    print(json.dumps(new, indent=1))

    assert known["profile"]["traits"] == {"name": "Ada"}
    assert (known["profile"]["events"], known["profile"]["sessions"]) == (3, 2)
    assert known["profile"]["first_seen"] == new["profile"]["first_seen"]
    (made,) = known["debugging"]["session"]["ids"]
    assert known["debugging"]["logs"] == [f"Session {made} is new."]
    print(json.dumps(known, indent=1))

    weir.require_balanced_books()
    ids = [*debugging["events"]["ids"], *known["debugging"]["events"]["ids"]]
    rows = weir.ask(
        "SELECT toString(event_id), profile_id FROM weir.events"
        f" WHERE source = '{SOURCE}' AND profile_id = '{profile}'"
    )
    assert sorted(rows) == sorted((event_id, profile) for event_id in ids)


def test_track_reports_events_without_result_when_identity_is_stopped(weir: RunningWeir) -> None:
    mark = f"stopped-{uuid.uuid4()}"
    with stopped(weir, "identity"):
        reply = track(
            weir,
            events=[{"type": mark}, VIEW],
            options={"debugger": True, "profile": True},
        )
    assert list(reply["profile"]) == ["id"]
    assert "no result yet" in reply["warnings"][0]
    for section in ("session", "events", "profile"):
        assert reply["debugging"][section]["saved"] == 0
        assert reply["debugging"][section]["errors"][0].startswith(
            "2 of 2 events have no result yet"
        )
    print(json.dumps(reply, indent=1))
    weir.require_balanced_books()
    rows = weir.ask(f"SELECT profile_id FROM weir.events WHERE event = '{mark}'")
    assert rows == [(reply["profile"]["id"],)]


def test_the_debugger_reports_a_repeated_event_as_a_duplicate(weir: RunningWeir) -> None:
    event: dict[str, str] = {}
    options = {"debugger": True}

    def both() -> list[Any]:
        event.update(type="repeated", id=str(uuid.uuid4()))
        return [track(weir, events=[event], options=options) for _ in range(2)]

    first, reply = heard(both)
    (stored,) = first["debugging"]["events"]["ids"]
    again = reply["debugging"]
    assert again["events"]["saved"] == 0
    assert f"repeats {stored} with the same payload" in again["logs"][0]


def unsaved(weir: RunningWeir) -> int:
    """Of the source, by the books."""
    weir.require_balanced_books()
    rows = weir.ask(
        f"SELECT sum(events) FROM weir.usage WHERE source = '{SOURCE}' AND outcome = 'unsaved'"
    )
    return int(rows[0][0])


def test_events_with_saveevents_off_are_processed_and_counted_as_unsaved(
    weir: RunningWeir,
) -> None:
    before = unsaved(weir)
    options = {"saveEvents": False, "debugger": True, "profile": True}
    sent = 0

    def both() -> list[Any]:
        nonlocal sent
        sent += 2
        return [track(weir, events=[{"type": "not-kept"}] * 2, options=options)]

    (reply,) = heard(both)
    assert reply["debugging"]["events"]["saved"] == 0
    assert reply["profile"]["events"] == 2
    assert unsaved(weir) == before + sent
    assert weir.ask("SELECT count() FROM weir.events WHERE event = 'not-kept'") == [(0,)]
    audit = weir.run("audit").stdout.splitlines()
    columns = dict(zip(audit[0].split(), _line(audit, SOURCE), strict=True))
    assert (int(columns["unsaved"]), columns["difference"]) == (before + sent, "0")


def _line(audit: list[str], source: str) -> list[str]:
    return next(line.split() for line in audit if line.startswith(f"{source} "))


def test_an_event_with_savesession_off_creates_no_session(weir: RunningWeir) -> None:
    options = {"saveSession": False, "debugger": True}
    (reply,) = heard(lambda: [track(weir, events=[{"type": "no-visit"}], options=options)])
    assert reply["debugging"]["session"]["ids"] == []
    profile = reply["profile"]["id"]
    weir.require_balanced_books()
    rows = (
        "SELECT profile_id, session_id FROM weir.events"
        f" WHERE event = 'no-visit' AND profile_id = '{profile}'"
    )
    assert weir.ask(rows) == [(profile, "")]
    assert weir.ask(f"SELECT sessions FROM weir.profiles WHERE profile_id = '{profile}'") == [(0,)]
    sessions = f"SELECT count() FROM weir.sessions WHERE profile_id = '{profile}'"
    assert weir.ask(sessions) == [(0,)]


def test_a_profile_less_event_creates_no_profile_but_a_session(weir: RunningWeir) -> None:
    session = ""

    def once() -> list[Any]:
        nonlocal session
        session = str(uuid.uuid4())
        return [
            track(
                weir,
                "/track?profile_less=true",
                session={"id": session},
                events=[{"type": "voucher", "properties": {"id": "V-1"}}],
                options={"debugger": True},
            )
        ]

    (reply,) = heard(once)
    assert reply["profile"] == {"id": None}
    assert reply["debugging"]["session"]["ids"] == [session]
    assert reply["debugging"]["profile"]["ids"] == []
    weir.require_balanced_books()
    rows = (
        "SELECT profile_id, session_id FROM weir.events"
        f" WHERE event = 'voucher' AND session_id = '{session}'"
    )
    assert weir.ask(rows) == [("", session)]
    sessions = f"SELECT profile_id, events FROM weir.sessions WHERE session_id = '{session}'"
    assert weir.ask(sessions) == [("", 1)]
    people = "SELECT count() FROM weir.profiles WHERE profile_id = '' OR has(identifiers, 's:{}')"
    assert weir.ask(people.format(session)) == [(0,)]


def test_a_webhook_by_get_is_a_row_without_profile_and_session(weir: RunningWeir) -> None:
    url = f"{weir.gateway}/collect/coupon-received/{SOURCE}?voucher=V-2&item=a&item=b"
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.status == 202
    weir.require_balanced_books()
    assert weir.ask(
        "SELECT profile_id, session_id, properties.voucher::String, properties.item::Array(String)"
        " FROM weir.events WHERE event = 'coupon-received'"
    ) == [("", "", "V-2", ["a", "b"])]
