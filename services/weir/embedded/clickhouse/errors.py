"""Errors as ClickHouse's HTTP interface reports them: code, name and HTTP status."""

import re

LOGICAL_ERROR = 49
SYNTAX_ERROR = 62
UNKNOWN_SETTING = 115
READONLY = 164
TOO_MANY_QUERIES = 202
QUERY_IS_TOO_LARGE = 229
ABORTED = 236
NOT_ENOUGH_SPACE = 243
TOO_MANY_BYTES = 307
SUPPORT_IS_DISABLED = 344
INTO_OUTFILE_NOT_ALLOWED = 358
BAD_REQUEST_PARAMETER = 408
ACCESS_DENIED = 497
AUTHENTICATION_FAILED = 516

_NAMES = {
    LOGICAL_ERROR: "LOGICAL_ERROR",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    UNKNOWN_SETTING: "UNKNOWN_SETTING",
    READONLY: "READONLY",
    TOO_MANY_QUERIES: "TOO_MANY_SIMULTANEOUS_QUERIES",
    QUERY_IS_TOO_LARGE: "QUERY_IS_TOO_LARGE",
    ABORTED: "ABORTED",
    NOT_ENOUGH_SPACE: "NOT_ENOUGH_SPACE",
    TOO_MANY_BYTES: "TOO_MANY_BYTES",
    SUPPORT_IS_DISABLED: "SUPPORT_IS_DISABLED",
    INTO_OUTFILE_NOT_ALLOWED: "INTO_OUTFILE_NOT_ALLOWED",
    BAD_REQUEST_PARAMETER: "BAD_REQUEST_PARAMETER",
    ACCESS_DENIED: "ACCESS_DENIED",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
}

# The same mapping as in a ClickHouse server: malformed -> 400, unknown names -> 404, and so on.
_STATUS = {
    400: (
        *(6, 8, 10, 26, 27, 33, 36, 38, 41, 43, 47, 53, 62, 69, 70, 72, 117, 130, 131, 184, 190),
        *(321, INTO_OUTFILE_NOT_ALLOWED, 386, BAD_REQUEST_PARAMETER, 456, 457),
    ),
    401: (AUTHENTICATION_FAILED,),
    403: (READONLY, ACCESS_DENIED),
    404: (46, 50, 56, 60, 81, UNKNOWN_SETTING),
    408: (159,),
    413: (QUERY_IS_TOO_LARGE, TOO_MANY_BYTES, 396),
    501: (48, SUPPORT_IS_DISABLED),
    503: (TOO_MANY_QUERIES, ABORTED, 439),
}
_STATUS_OF_CODE = {code: status for status, codes in _STATUS.items() for code in codes}
_CODE = re.compile(r"Code: (\d+)\. DB::")


class EngineError(Exception):
    """A failed statement, with ClickHouse's code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def status(self) -> int:
        return _STATUS_OF_CODE.get(self.code, 500)


def refusal(code: int, reason: str) -> EngineError:
    """Return an error of this server, worded like the engine's own errors."""
    return EngineError(code, f"Code: {code}. DB::Exception: {reason}. ({_NAMES[code]})")


def from_engine(fault: Exception) -> EngineError:
    """Return the engine's code and text, without the text that the Python binding puts around it."""
    text = str(fault)
    found = _CODE.search(text)
    if found is None:
        return EngineError(1002, f"Code: 1002. DB::Exception: {text}. (UNKNOWN_EXCEPTION)")
    return EngineError(int(found.group(1)), text[found.start() :].strip())
