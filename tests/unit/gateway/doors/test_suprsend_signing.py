"""A SuprSend signature is valid when it equals the SDK's own and invalid when any signed part differs."""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate
from typing import IO, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import attempt, problem_of
from tests.support.official import PACKAGES
from weir.core.registry import Source
from weir.core.resource_paths import ROOT
from weir.gateway.doors.suprsend.door import BULK, DOOR
from weir.gateway.http import signing
from weir.gateway.http.error_codes import Problem
from weir.gateway.http.request_meta import RequestMeta
from weir.registry.secret_encryption import SecretEncryption, new_key

KEY = "workspace-key-0123456789"
SECRET = "a-secret-of-theirs"
NOW = 1_764_590_400_000
DATE = "Mon, 01 Dec 2025 12:00:00 GMT"
BODY = '{"event": "größer 東京"}'.encode()
TYPE = "application/json; charset=utf-8"
SOURCE = Source(id="shop", signing_secrets=("one-that-is-to-go", SECRET))


def request(signature: str, **changed: Any) -> RequestMeta:
    headers = {"Authorization": f"{KEY}:{signature}", "Content-Type": TYPE, "Date": DATE}
    headers |= {n.replace("_", "-"): v for n, v in changed.items() if n[0].isupper()}
    proxy = CIMultiDictProxy(CIMultiDict({n: v for n, v in headers.items() if v is not None}))
    plain = RequestMeta("POST", "/v2/event", "", {}, proxy, "", NOW, "/v2/event/?a=1")
    return msgspec.structs.replace(plain, **{n: v for n, v in changed.items() if n[0].islower()})


def signed(body: bytes = BODY, secret: str = SECRET, date: str = DATE) -> str:
    """As the product's API says, in so many words."""
    text = f"POST\n{hashlib.md5(body).hexdigest()}\n{TYPE}\n{date}\n/v2/event/?a=1"
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def verdict(request_meta: RequestMeta, body: bytes = BODY, source: Source = SOURCE) -> str:
    found = attempt(DOOR.verify, request_meta, body, source)
    if found is None and signing.must_sign(source, DOOR.name):
        found = signing.UNSIGNED
    return found.code if isinstance(found, Problem) else "fine"


def test_a_signature_is_refused_as_secrets_locked_when_secrets_cannot_be_decrypted() -> None:
    shut = SecretEncryption((new_key(),)).sealed(
        Source(id="shop", signing_secrets=("unknown-here",))
    )
    both = Source(id="shop", signing_secrets=(*shut.signing_secrets, SECRET))
    assert verdict(request(signed()), source=shut) == "secrets_locked"
    # what the registry shows of a secret is none
    forged = request(signed(secret=shut.signing_secrets[0]))
    assert verdict(forged, source=shut) == "secrets_locked"
    assert verdict(request(signed()), source=both) == "fine"
    unsigned = request("", Authorization=f"Bearer {KEY}")
    assert verdict(unsigned, source=shut) == "wrong_signature"


@pytest.mark.parametrize("secret", SOURCE.signing_secrets)
def test_a_signature_with_any_secret_of_the_source_is_valid(secret: str) -> None:
    assert verdict(request(signed(secret=secret))) == "fine"


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "PUT"},
        {"target": "/v2/event/"},
        {"target": "/v2/event/?a=2"},
        {"target": "/v2/event?a=1"},
        {"target": "/v2/bulk/event/?a=1"},
        {"Content_Type": "application/json"},
        {"Content_Type": None},
        {"Date": "Mon, 01 Dec 2025 12:00:01 GMT"},
        {"Authorization": f"{KEY}:{signed()[:-2]}A="},
        {"Authorization": f"{KEY}:{signed()} x"},
        {"Authorization": f"{KEY}:"},
        {"Authorization": KEY},
        {"Authorization": f"{KEY}:gr\udcf6\udcdf"},
        {"Authorization": None},
    ],
    ids=str,
)
def test_a_changed_signed_part_or_malformed_header_makes_the_signature_wrong(
    changed: dict[str, Any],
) -> None:
    assert verdict(request(signed(), **changed)) == "wrong_signature"


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_body_byte_makes_the_signature_wrong(place: int, change: int) -> None:
    altered = bytearray(BODY)
    altered[place] ^= change
    assert verdict(request(signed()), bytes(altered)) == "wrong_signature"


def test_a_signature_with_another_secret_is_wrong() -> None:
    assert verdict(request(signed(secret=SECRET + "x"))) == "wrong_signature"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "fine"), (-900, "fine"), (900, "fine"), (-901, "wrong_date"), (901, "wrong_date")],
)
def test_a_date_more_than_15_minutes_off_is_refused(seconds: int, expected: str) -> None:
    date = formatdate(NOW / 1000 + seconds, usegmt=True)
    assert verdict(request(signed(date=date), Date=date)) == expected


@pytest.mark.parametrize("date", [None, "", "now", "Mon, 99 Dec 2025 12:00:00 GMT", "1764590400"])
def test_a_missing_or_invalid_date_is_refused(date: str | None) -> None:
    assert verdict(request(signed(date=date or ""), Date=date)) == "wrong_date"


@given(st.text(max_size=40))
def test_any_date_header_yields_a_verdict(date: str) -> None:
    assert verdict(request(signed(), Date=date)) in ("wrong_date", "wrong_signature", "fine")


def test_a_signed_request_to_a_source_without_secrets_names_the_missing_setting() -> None:
    problem = problem_of(BULK.verify, request(signed()), BODY, Source(id="shop"))
    assert problem.code == "wrong_signature"
    assert "'shop' has no signing secret" in problem.detail
    assert "signing_secrets" in problem.detail


def test_a_bearer_key_suffices_only_when_the_source_has_no_signing_secrets() -> None:
    """A bearer key alone suffices without signing secrets; `with_workspace_api_key` signs nothing."""
    bearer = request("", Authorization=f"Bearer {KEY}")
    assert verdict(bearer, source=Source(id="shop")) == "fine"
    assert verdict(bearer) == "wrong_signature"


class Sdk:
    """The SDK's own signing function, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", write: IO[str], read: IO[str]) -> None:
        self.process, self._write, self._read = process, write, read

    def sign(self, **case: Any) -> tuple[bytes, str]:
        print(json.dumps(case), file=self._write, flush=True)
        made = json.loads(self._read.readline())
        return made["content"].encode(), made["signature"]


@pytest.fixture(scope="module")
def sdk() -> Iterator[Sdk]:
    process = subprocess.Popen(
        [sys.executable, "-P", str(ROOT / "tests/clients/suprsend_signature.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(PACKAGES), "PYTHONUTF8": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield Sdk(process, process.stdin, process.stdout)
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(_text, _json, max_size=4) | st.lists(_json, max_size=4), _text.filter(bool))
def test_an_sdk_signature_is_valid_and_fails_for_a_changed_body_or_secret(
    sdk: Sdk, content: Any, secret: str
) -> None:
    body, signature = sdk.sign(
        url="https://weir.example/v2/bulk/event/?a=%20b",
        method="POST",
        content=content,
        headers={"Content-Type": TYPE, "Date": DATE},
        secret=secret,
    )
    request_meta = request(signature, target="/v2/bulk/event/?a=%20b")
    assert verdict(request_meta, body, Source(id="shop", signing_secrets=(secret,))) == "fine"
    assert (
        verdict(request_meta, body + b" ", Source(id="shop", signing_secrets=(secret,))) != "fine"
    )
    assert verdict(request_meta, body, Source(id="shop", signing_secrets=(secret + "x",))) != "fine"
