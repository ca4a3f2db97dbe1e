"""Create and verify the request signature of SuprSend's SDKs. Pure."""

import base64
import hashlib
import hmac
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

from aiohttp import hdrs

from weir.core.identifiers import content_digest
from weir.core.registry import Source
from weir.gateway.http import signing
from weir.gateway.http.error_codes import Problem, ProblemError
from weir.gateway.http.request_meta import RequestMeta

FAR_MS = 15 * 60_000  # how far a sender's clock may be off
HOW = (
    "The signature is the base64 of the HMAC-SHA256, with the workspace secret, over the method, the"
    " MD5 of the body in hex, Content-Type, Date, and the path with its query, joined by newlines."
)


def string_to_sign(asked: RequestMeta, body: bytes) -> bytes:
    """Return the signed bytes: verb, digest of the body, content type, date, path with query, each as it was sent."""
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest() if body else ""
    kind, date = asked.headers.get(hdrs.CONTENT_TYPE, ""), asked.headers.get(hdrs.DATE, "")
    lines = (asked.method, digest, kind, date, asked.target)
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def sign(text: bytes, secret: str) -> bytes:
    return base64.b64encode(hmac.digest(secret.encode(), text, "sha256"))


def check(asked: RequestMeta, body: bytes, given: str, source: Source) -> bytes:
    """Return a digest of the signed bytes.

    `ProblemError` if `given` is not a signature of the source, or its `Date` is too far off.
    """
    if not source.signing_secrets:
        how = (
            f"Source {source.id!r} has no signing secret: add the workspace secret to its"
            " `signing_secrets` and run `weir apply`."
        )
        raise ProblemError(Problem("wrong_signature", how))
    sent_ms = _epoch_ms(asked.headers.get(hdrs.DATE, ""))
    if sent_ms is None:
        raise ProblemError(
            Problem("wrong_date", "Send a `Date` header in HTTP's format, and sign it.")
        )
    if abs(sent_ms - asked.now_ms) > FAR_MS:
        text = "`Date` is more than 15 minutes off: correct the sender's clock."
        raise ProblemError(Problem("wrong_date", text))
    signed = string_to_sign(asked, body)
    signature = given.encode("utf-8", "surrogateescape")
    signing.check(source, [signature], lambda one: sign(signed, one), HOW)
    return content_digest(signed)


@lru_cache(maxsize=64)
def _epoch_ms(date: str) -> int | None:
    try:
        parsed = parsedate_to_datetime(date)
        return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
