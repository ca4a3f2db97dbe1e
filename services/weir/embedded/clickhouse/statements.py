"""Tells INSERTs with rows from other statements, by the SQL of a request, without running it.

This looks only at words outside quotes, comments and parentheses. The payload of an INSERT is never
scanned, and it is copied only if it must be joined from the URL and the body.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from weir.embedded.clickhouse.errors import (
    ACCESS_DENIED,
    INTO_OUTFILE_NOT_ALLOWED,
    QUERY_IS_TOO_LARGE,
    SUPPORT_IS_DISABLED,
    SYNTAX_ERROR,
    refusal,
)

_TOKEN = re.compile(
    rb"""(?P<skip>\s+|--[^\n]*|\#[!\ ][^\n]*)
    |(?P<comment>/\*)
    |(?P<quoted>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`
        |\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        |\xe2\x80\x98.*?\xe2\x80\x99|\xe2\x80\x9c.*?\xe2\x80\x9d)
    |(?P<beyond>[\x80-\xff])
    |(?P<word>\w[\w$]*)
    |(?P<mark>.)""",
    re.DOTALL | re.VERBOSE,
)
_COMMENT_MARK = re.compile(rb"/\*|\*/")
_BEFORE_ROWS = re.compile(rb"[ \t\f]*\r?\n?")
# Longest SQL without rows; the head of an INSERT must be within as many bytes.
_HEAD_BYTES = 1 << 20

# Engines and sources that a definition may name: their data is in this engine.
_LOCAL_ENGINE = re.compile(
    r"\w*mergetree|memory|null|log|tinylog|stripelog|buffer|join|set|merge|dictionary|generaterandom"
    r"|timeseries|windowview|atomic|ordinary|overlay|lazy"
)
_LOCAL_SOURCES = {"clickhouse", "null"}
# Words that can follow a column called `engine`, which system tables have.
_AFTER_A_COLUMN = frozenset(
    {
        *("from", "as", "in", "not", "like", "ilike", "is", "and", "or", "asc", "desc", "group"),
        *(
            "order",
            "having",
            "limit",
            "where",
            "prewhere",
            "union",
            "settings",
            "format",
            "between",
        ),
        *("collate", "nulls", "then", "else", "end", "global", "intersect", "except", "with"),
    }
)
_NO_FILES = "Queries may not use files of the server"


@dataclass(frozen=True)
class InsertStatement:
    """An INSERT with rows: `head` is the SQL up to its SETTINGS, `payload` the rows as they came."""

    head: str
    settings: str
    format: str
    payload: memoryview


@dataclass(frozen=True)
class Statement:
    """Any other statement; `format` is the one that the SQL itself names, if any."""

    sql: str
    format: str | None


@dataclass(frozen=True)
class Token:
    kind: str
    text: bytes
    start: int
    end: int
    depth: int

    @property
    def name(self) -> str:
        """Return the token as an identifier, in lower case."""
        return self.text.strip(b'`"').decode(errors="replace").lower()

    def is_word(self, *words: bytes) -> bool:
        return self.kind == "word" and self.text.upper() in words


def parse(query: str, body: bytes) -> InsertStatement | Statement:
    """Split a request as ClickHouse does: the SQL is `query`, a line break and `body`.

    Raises `EngineError` for SQL that is too long, that uses files (`INTO OUTFILE`, `FROM INFILE`) or data
    outside this engine, and for an INSERT whose rows the engine would lose or alter.
    """
    head = query.encode()
    insert = _find_insert(head)
    if insert is not None and (insert.format != "Values" or insert.payload or body):
        rest = bytes(insert.payload)
        payload = rest + b"\n" + body if rest.strip() else body
        return InsertStatement(insert.head, insert.settings, insert.format, memoryview(payload))
    text = b"\n".join((head, body)) if head and body else head or body
    insert = _find_insert(text)
    if insert is not None:
        return insert
    if len(text) > _HEAD_BYTES:
        raise refusal(
            QUERY_IS_TOO_LARGE, f"Max query size exceeded: {len(text)} > {_HEAD_BYTES} bytes"
        )
    _refuse_files(text)
    _refuse_outward_definitions(text)
    _refuse_rows_unseen(text)
    return Statement(text.decode(errors="replace"), _named_format(text))


def tokenize(text: bytes) -> Iterator[Token]:
    depth, at = 0, 0
    while found := _TOKEN.match(text, at):
        kind, at = found.lastgroup or "", found.end()
        if kind == "comment":
            at = _comment_end(text, at)
            continue
        if kind in ("skip", "beyond"):  # the engine takes some Unicode spaces for spaces, too
            continue
        if kind == "tag":
            kind = "quoted"
        token = found.group()
        if kind == "mark" and token in b")]}":
            depth -= 1
        yield Token(kind, token, found.start(), found.end(), depth)
        if kind == "mark" and token in b"([{":
            depth += 1


def _comment_end(text: bytes, at: int) -> int:
    """Return where the comment around `at` ends. Comments nest."""
    level = 1
    for mark in _COMMENT_MARK.finditer(text, at):
        level += 1 if mark.group() == b"/*" else -1
        if level == 0:
            return mark.end()
    return len(text)


def _find_insert(text: bytes) -> InsertStatement | None:
    """Return the INSERT with rows that `text` begins with; None for any other statement."""
    tokens = tokenize(text[:_HEAD_BYTES])
    first = next(tokens, None)
    if first is None or not first.is_word(b"INSERT"):
        return None
    settings: int | None = None
    for token in _after_target(tokens):
        if token.is_word(b"FROM", b"INFILE", b"SELECT", b"WITH", b"WATCH"):
            return None
        if token.depth:
            continue
        if token.is_word(b"VALUES"):
            return _insert(text, settings, token.start, "Values", token.end)
        if settings is None and token.is_word(b"SETTINGS"):
            settings = token.start
        if token.is_word(b"FORMAT"):
            name = next(tokens, None)
            if name is None or name.kind != "word":
                return None
            form = "Values" if name.is_word(b"VALUES") else name.text.decode()
            return _insert(text, settings, token.start, form, name.end)
    return None


def _after_target(tokens: Iterator[Token]) -> Iterator[Token]:
    """Yield the tokens after `INTO [TABLE] [FUNCTION] name[.name]`: a table may be called `format`."""
    token = next(tokens, None)
    while token is not None and token.is_word(b"INTO", b"TABLE", b"FUNCTION"):
        token = next(tokens, None)
    while token is not None:  # `token` is a name, or the mark that opens {name:Identifier}
        if token.text == b"{":
            for token in tokens:
                if token.text == b"}":
                    break
        token = next(tokens, None)
        if token is None:
            return
        if token.text != b".":
            yield token
            break
        token = next(tokens, None)
    yield from tokens


def _insert(
    text: bytes, settings: int | None, head_end: int, form: str, rows: int
) -> InsertStatement:
    before = _BEFORE_ROWS.match(text, rows)
    start = before.end() if before is not None else rows
    middle = head_end if settings is None else settings
    head, own = (part.decode(errors="replace") for part in (text[:middle], text[middle:head_end]))
    return InsertStatement(head, own, form, memoryview(text)[start:])


def _named_format(text: bytes) -> str | None:
    named, previous = None, None
    for token in tokenize(text):
        if previous is not None and token.kind == "word" and token.depth == 0:
            named = token.text.decode()
        previous = token if token.depth == 0 and token.is_word(b"FORMAT") else None
    return named


def _refuse_files(text: bytes) -> None:
    """Raise code 358 or 497 for SQL that reads or writes files of the machine."""
    previous = None
    for token in tokenize(text):
        if previous is not None and (
            (previous.is_word(b"INTO") and token.is_word(b"OUTFILE"))
            or (previous.is_word(b"FROM") and token.is_word(b"INFILE"))
        ):
            raise refusal(INTO_OUTFILE_NOT_ALLOWED, _NO_FILES)
        # the function `file`, which no grant guards in this engine; grants guard the table function
        if previous is not None and previous.name == "file" and token.text == b"(":
            raise refusal(ACCESS_DENIED, _NO_FILES)
        previous = token


def _refuse_outward_definitions(text: bytes) -> None:
    """Raise code 497 for tables, databases and dictionaries with data elsewhere: no grant guards them."""
    tokens = [token for token in tokenize(text) if token.text != b"="]
    in_source = False
    for before, token, after in zip(tokens, tokens[1:], [*tokens[2:], None], strict=False):
        in_source = in_source and token.depth > 0
        outward = ""
        if before.is_word(b"ENGINE") and before.depth == 0 and not token.text.startswith(b"'"):
            is_name = token.kind in ("word", "quoted") and token.name not in _AFTER_A_COLUMN
            outward = token.name if is_name and not _LOCAL_ENGINE.fullmatch(token.name) else ""
        elif before.is_word(b"SOURCE") and before.depth == 0 and token.text == b"(" and after:
            in_source = True
            outward = after.name if after.name not in _LOCAL_SOURCES else ""
        elif (in_source and token.is_word(b"HOST")) or (
            before.is_word(b"DISK") and token.text == b"("
        ):
            outward = (token if in_source else before).name
        if outward:
            raise refusal(ACCESS_DENIED, f"`{outward}` is outside this engine's own tables")


def _refuse_rows_unseen(text: bytes) -> None:
    """Raise code 62 or 344 for an INSERT that cannot be split from rows that the engine would lose or alter."""
    tokens = tokenize(text)
    first = next(tokens, None)
    if first is None or not first.is_word(b"INSERT"):
        return
    try:
        text.decode()
    except UnicodeDecodeError:
        raise refusal(SYNTAX_ERROR, "An INSERT without rows of its own must be UTF-8") from None
    previous = first
    for token in tokens:
        if previous.is_word(b"INPUT") and token.text == b"(":
            raise refusal(SUPPORT_IS_DISABLED, "INSERT ... SELECT ... FROM input() is unsupported")
        previous = token
