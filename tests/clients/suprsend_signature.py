"""Prints what SuprSend's own SDK makes of each case on stdin: the body that it sends, and its signature."""

import json
import sys

from suprsend.signature import get_request_signature  # type: ignore[import-not-found]

for line in sys.stdin:
    case = json.loads(line)
    content, signature = get_request_signature(
        case["url"], case["method"], case["content"], case["headers"], case["secret"]
    )
    print(json.dumps({"content": content, "signature": signature}), flush=True)
