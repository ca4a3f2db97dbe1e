"""`DELETE /v1/profiles/{id}` requests the erasure of a person; `GET /v1/erasures/{id}` returns its progress."""

from collections.abc import Collection
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec
import uuid_utils

from weir.core import topics
from weir.core.registry import Source, hash_key
from weir.erasure.model import Erasure, subject_of
from weir.erasure.topic import Erasures, erasure_entries
from weir.gateway.api.api_keys import api_key_of
from weir.gateway.http.body_reader import ReadBody
from weir.gateway.http.error_codes import Problem, quoted
from weir.gateway.http.openapi import problem_response
from weir.gateway.http.problems import RETRY_SECONDS, unavailable
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest.producer import GatewayProducer
from weir.gateway.registry_copy import Registry

MAX_ID = 255  # characters, as for a profile id


def administered(key: str, wanted: str, sources: Collection[Source]) -> set[str] | Problem:
    """Return the workspaces, at least one, in which a key may erase people.

    `wanted`: a source whose workspace is to be the only one; empty: all workspaces of the key.
    """
    digest = hash_key(key) if key else ""
    enabled = [source for source in sources if source.enabled]
    found = {source.id: source.workspace for source in enabled if digest in source.admin_key_hashes}
    if wanted and found and wanted not in found:
        return Problem("forbidden", f"The key is not an admin key of {quoted(wanted)}.", "source")
    if found:
        return {found[wanted]} if wanted else set(found.values())
    if any(digest in source.key_hashes for source in enabled):
        return Problem("forbidden", "This requires one of the source's admin_keys.")
    return Problem(
        "unauthorized", "Send an admin key as `Authorization: Bearer`, `X-Weir-Key` or `?key=`."
    )


def erasure_json(erasure: Erasure) -> bytes:
    """Encode what a client may know of an erasure as JSON: never the person."""
    return msgspec.json.encode(
        {
            "erasure_id": erasure.erasure_id,
            "workspace": erasure.workspace,
            "state": erasure.state,
            "step": erasure.step,
            "progress": erasure.progress,
            "requested_at": erasure.requested_at,
            "erased_until": erasure.until or None,
            "finished_at": erasure.finished_at or None,
            "subject_hash": erasure.subject_hash,
            "places": erasure.places,
        }
    )


class ErasurePagesContext(Protocol):
    """What these pages need of the gateway."""

    @property
    def registry(self) -> Registry: ...

    @property
    def erasures(self) -> Erasures: ...

    @property
    def producer(self) -> GatewayProducer: ...


def _scope(asked: RequestMeta, app: ErasurePagesContext) -> set[str] | Problem:
    if not (app.registry.loaded and app.erasures.loaded):
        return unavailable("The registry and the erasures are not loaded yet.")
    wanted = parse_qs(asked.query).get("source", [""])[-1]
    sources = [view.source for view in app.registry.by_id.values()]
    key = api_key_of(asked.headers, asked.query)
    scope = administered(key, wanted, sources)
    return app.registry.explained(key, scope) if isinstance(scope, Problem) else scope


def _refused(why: Problem) -> Answer:
    return problem(why, b"WWW-Authenticate: Bearer\r\n" if why.code == "unauthorized" else b"")


_TIME = {"type": ["integer", "null"], "description": "Epoch milliseconds; null: not yet."}
_ERASURE: dict[str, Any] = {
    "type": "object",
    "required": ["erasure_id", "workspace", "state", "step", "requested_at", "places"],
    "properties": {
        "erasure_id": {"type": "string", "format": "uuid"},
        "workspace": {"type": "string"},
        "state": {"type": "string", "enum": ["requested", "counted", "finished"]},
        "step": {"type": "string", "description": "What is being done, as text for people."},
        "progress": {
            "type": "object",
            "required": ["phase", "of", "left"],
            "properties": {
                "phase": {"type": "string", "enum": ["queued", "waiting", "deleting", "finished"]},
                "of": {
                    "type": "string",
                    "description": "The service that the erasure waits for, or the table.",
                },
                "left": {
                    "type": "integer",
                    "description": "Records that the service still has to process.",
                },
            },
        },
        "requested_at": {"type": "integer", "description": "Epoch milliseconds."},
        "erased_until": {**_TIME, "description": "Everything received until this time is erased."},
        "finished_at": _TIME,
        "subject_hash": {
            "type": "string",
            "description": "The hash under which the erasure is remembered.",
        },
        "places": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["place", "rows", "gone_by"],
                "properties": {
                    "place": {"type": "string"},
                    "rows": {"type": "integer", "description": "Rows that were removed."},
                    "gone_by": {
                        "type": "integer",
                        "description": "Epoch milliseconds: from then on no disk has a byte of it.",
                    },
                },
            },
        },
    },
}


def _operation(summary: str, status: str, text: str, **problems: str) -> dict[str, Any]:
    refused = {
        number.removeprefix("status_"): problem_response(why) for number, why in problems.items()
    }
    answer = {"description": text, "content": {"application/json": {"schema": _ERASURE}}}
    return {
        "summary": summary,
        "security": [{"bearer": []}, {"header": []}, {"query": []}],
        "parameters": [
            {
                "name": "source",
                "in": "query",
                "schema": {"type": "string"},
                "description": "A source of the person's workspace, if the key has several workspaces.",
            }
        ],
        "responses": {status: answer, **refused},
    }


class ForgetPage:
    """The page that requests an erasure: durable when it is answered, carried out by the eraser.

    A second request for a person whose erasure is pending returns that erasure.
    """

    name = "forget"
    operation = _operation(
        "Erase a person everywhere, by a profile id. This cannot be undone.",
        "202",
        "The request is durable and will be carried out.",
        status_400="The id is not valid, or the key has several workspaces and `source` is missing.",
        status_401="The key is missing or unknown.",
        status_403="The key is not an admin key, or not one of this source.",
        status_503="It is not known whether the request is durable; send it again.",
    )

    async def answer(self, asked: RequestMeta, read: ReadBody, app: ErasurePagesContext) -> Answer:
        scope = _scope(asked, app)
        if isinstance(scope, Problem):
            return _refused(scope)
        profile_id = asked.parts["id"].strip()
        if not 1 <= len(profile_id) <= MAX_ID:
            return problem(Problem("invalid_query", f"An id has 1 to {MAX_ID} characters.", "id"))
        if len(scope) > 1:
            text = "The key has sources in several workspaces: name one source with ?source=."
            return problem(Problem("invalid_query", text, "source"))
        workspace = scope.pop()
        subject = subject_of("profile", profile_id)
        erasure = app.erasures.pending_of(workspace, subject)
        if erasure is None:
            erasure = Erasure(str(uuid_utils.uuid7()), workspace, subject, asked.now_ms)
            entries = erasure_entries(erasure)
            written = [(topics.ERASURES, key, value) for key, value in entries]
            if not (await app.producer.write(written, asked.now_ms)).durable:
                text = (
                    "The brokers did not acknowledge the request, so it may be carried out or not. Send it"
                    " again: it is carried out only once."
                )
                return problem(Problem("unacknowledged", text, "", RETRY_SECONDS))
            app.erasures.apply(entries)  # the next request to this process finds it
        return Answer(202, erasure_json(erasure))


class ErasurePage:
    """The page for an erasure's progress; once finished, what was where and when topics have lost it too."""

    name = "erasure"
    operation = _operation(
        "The progress of an erasure.",
        "200",
        "The erasure.",
        status_401="The key is missing or unknown.",
        status_403="The key is not an admin key, or not one of this source.",
        status_404="No such erasure in the workspaces that the key administers.",
        status_503="The erasures are not loaded yet; try again.",
    )

    async def answer(self, asked: RequestMeta, read: ReadBody, app: ErasurePagesContext) -> Answer:
        scope = _scope(asked, app)
        if isinstance(scope, Problem):
            return _refused(scope)
        erasure = app.erasures.by_id.get(asked.parts["id"].strip().lower())
        if erasure is None or erasure.workspace not in scope:
            text = f"There is no erasure {quoted(asked.parts['id'])}."
            return problem(Problem("not_found", text, "id"))
        return Answer(200, erasure_json(erasure))


FORGET = ForgetPage()
ERASURE = ErasurePage()
