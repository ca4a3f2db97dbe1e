"""How senders sign for the doors that want it, written anew: headers for a request."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from email.utils import formatdate


def suprsend(method: str, target: str, body: bytes, key: str, secret: str) -> dict[str, str]:
    """As SuprSend's SDKs sign, now."""
    kind, date = "application/json; charset=utf-8", formatdate(usegmt=True)
    text = f"{method}\n{hashlib.md5(body).hexdigest()}\n{kind}\n{date}\n{target}"
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return {"Content-Type": kind, "Date": date, "Authorization": f"{key}:{signature}"}


SIGN: dict[str, Callable[[str, str, bytes, str, str], dict[str, str]]] = {"suprsend": suprsend}
