"""Create and verify Weir's request signature, which every door understands. Pure.

    X-Weir-Signature: t=<epoch seconds>,v1=<hex of HMAC-SHA256>

The sender signs `t`, method, path with query, and the `Idempotency-Key` header (empty if there is none), each
followed by a newline, and then the body before compression. So a recorded request cannot be sent again as
another one.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Collection

from multidict import istr

from weir.core.identifiers import content_digest
from weir.core.registry import Source, is_sealed
from weir.gateway.http import request_headers
from weir.gateway.http.error_codes import Problem, ProblemError
from weir.gateway.http.request_meta import RequestMeta

SIGNATURE = istr("X-Weir-Signature")
FAR_SECONDS = 300  # how far a sender's clock may be off
LOCKED_SECONDS = 60  # `retry_after` while a secret cannot be decrypted
MOST_SIGNATURES = 4  # checked in one header; senders send two while a secret changes
# Idempotency keys of signed requests are remembered at least this long: longer than a signature is valid.
REMEMBERED_SECONDS = 3_600
EVERY_DOOR = "*"
HOW = (
    "`X-Weir-Signature: t=<epoch seconds>,v1=<hex>` is the HMAC-SHA256, with one of the source's"
    " `signing_secrets`, over t, the method, the path with its query and the Idempotency-Key, each followed"
    " by a newline, and then the body."
)

UNSIGNED = Problem(
    "wrong_signature",
    f"This source accepts only signed requests at this door (see `unsigned_doors`). {HOW}",
)

_header = re.compile(r"t=(\d{1,12})((?:,v1=[0-9a-fA-F]{64})+)").fullmatch


def must_sign(source: Source, door: str) -> bool:
    """Check whether a source accepts only signed requests at a door."""
    if not source.signing_secrets:
        return False
    return door not in source.unsigned_doors and EVERY_DOOR not in source.unsigned_doors


def signed_text(asked: RequestMeta, body: bytes, at: str) -> bytes:
    """Return the bytes that are signed."""
    key = asked.headers.get(request_headers.IDEMPOTENCY_KEY, "")
    lines = f"{at}\n{asked.method}\n{asked.target}\n{key}\n"
    return lines.encode("utf-8", "surrogateescape") + body


def sign(text: bytes, secret: str) -> bytes:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest().encode()


def verify(asked: RequestMeta, body: bytes, source: Source) -> bytes | None:
    """Return a digest of the signed bytes; None: there is no signature, or no secret to check it with.

    `ProblemError` if the signature is not the source's, or its time is too far off.
    """
    given = asked.headers.get(SIGNATURE)
    if given is None or not source.signing_secrets:
        return None
    found = _header(given.strip().replace(" ", ""))
    if found is None:
        raise ProblemError(Problem("wrong_signature", HOW))
    if abs(int(found[1]) - asked.now_ms // 1_000) > FAR_SECONDS:
        why = f"`t` is more than {FAR_SECONDS // 60} minutes off: correct the sender's clock."
        raise ProblemError(Problem("wrong_date", why))
    signatures = [part.lower().encode() for part in found[2].split(",v1=")[1:]]
    text = signed_text(asked, body, found[1])
    check(source, signatures[:MOST_SIGNATURES], lambda one: sign(text, one), HOW)
    return content_digest(text)


def check(source: Source, given: Collection[bytes], make: Callable[[str], bytes], how: str) -> None:
    """Check that a signature was made with a secret of the source, else raise `ProblemError`.

    Every secret is always tried, so that the time it takes reveals nothing.
    """
    readable = [secret for secret in source.signing_secrets if not is_sealed(secret)]
    made = [make(secret) for secret in readable]
    equal = [hmac.compare_digest(one, other) for one in given for other in made]
    if any(equal):
        return
    if len(readable) < len(source.signing_secrets):
        text = "The gateway does not have the key that decrypts the source's secret; nothing was accepted."
        raise ProblemError(Problem("secrets_locked", text, "", LOCKED_SECONDS))
    raise ProblemError(Problem("wrong_signature", how))


def key_of(signed: bytes, index: int) -> str:
    """Return an idempotency key for an event without one, made from the signed bytes: a resend has the same key."""
    return f"signed-{signed.hex()}-{index}"
