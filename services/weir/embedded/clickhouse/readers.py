"""Access checks for readers where the engine has no grants, made on the statement as the engine formats it.

The engine has no grants for its own database `system`, which shows other users' queries, their literals
in error messages, and the machine's paths. So readers may read only the `system` tables listed here.
"""

from collections.abc import Mapping, Sequence

from weir.embedded.clickhouse.errors import ACCESS_DENIED, refusal
from weir.embedded.clickhouse.statements import Token, tokenize

# Tables about the engine or the reader's own session, or limited by the engine to what a reader may see.
_READABLE = frozenset(
    {
        *("one", "numbers", "numbers_mt", "zeros", "zeros_mt", "primes"),
        *("databases", "tables", "columns", "data_skipping_indices", "projections"),
        *("settings", "current_roles", "enabled_roles", "privileges", "build_options"),
        *("functions", "aggregate_function_combinators", "table_functions", "formats", "codecs"),
        *("data_type_families", "table_engines", "database_engines", "collations", "time_zones"),
        *("keywords", "contributors", "licenses", "documentation"),
    }
)
# These tables show where on the machine's disk the data is.
_WITH_PATHS = {"tables", "databases"}
_PATHS = {"data_paths", "data_path", "metadata_path"}
# `file` reads any file of the machine, also by `APPLY file` or `arrayMap(file, ...)`; `python` reads
# objects of this process; the others read a table's internal data without a grant on the table.
_FUNCTIONS = frozenset(
    {
        *("file", "python", "mergetreeprojection", "mergetreetextindex"),
        "mergetreecodecblockcounts",
    }
)
_SHOWN = {"processlist", "merges"}
_NOT_FOR_READERS = "readers may not use `{}`; rename a column or alias that has this name"


def refuse_beyond_readers(understood: str, database: str, parameters: Mapping[str, str]) -> None:
    """Raise code 497 for a statement that the engine would allow a reader, but that readers must not run.

    `understood`: the statement as the engine formats it, so that quotes and comments hide nothing.
    `database`: the current one; empty: the default. A name after a dot is that of a column or a path.
    """
    if database == "system":
        raise refusal(ACCESS_DENIED, "readers may not use the database `system`: name its tables")
    found = list(tokenize(understood.encode()))
    _refuse_functions(found)
    if read := _system_tables(found):
        _refuse_system_tables(read)
        if read & _WITH_PATHS:
            _refuse_paths(found)
    if "Identifier}" in understood:
        for value in parameters.values():
            names = {part.strip(' `"').lower() for part in value.split(".")}
            if hidden := sorted(names & (_FUNCTIONS | {"system"})):
                raise refusal(ACCESS_DENIED, _NOT_FOR_READERS.format(hidden[0]))


def _refuse_functions(found: Sequence[Token]) -> None:
    before, dotted = "", False
    for token in found:
        if token.name in _FUNCTIONS and (not dotted or before in ("", "system")):
            raise refusal(ACCESS_DENIED, _NOT_FOR_READERS.format(token.name))
        if before == "show" and token.name in _SHOWN:
            raise refusal(ACCESS_DENIED, _NOT_FOR_READERS.format(f"SHOW {token.name.upper()}"))
        dotted = token.text == b"."
        if not dotted and token.name != "full":
            before = token.name if token.kind in ("word", "quoted") else ""


def _system_tables(found: Sequence[Token]) -> set[str]:
    """Return every name after `system.`; `{` if a parameter gives the name."""
    named = zip(found, found[1:], found[2:], strict=False)
    return {
        table.name for first, dot, table in named if first.name == "system" and dot.text == b"."
    }


def _refuse_system_tables(names: set[str]) -> None:
    if hidden := sorted(names - _READABLE):
        raise refusal(ACCESS_DENIED, f"readers may not read `system.{hidden[0]}`")


def _refuse_paths(found: Sequence[Token]) -> None:
    """Raise code 497 for path columns, named or included by a `*` or COLUMNS(...)."""
    texts = [b"", b"", *(token.text.lower() for token in found)]
    for two_before, before, token in zip(texts, texts[1:], found, strict=False):
        star = token.text == b"*" and (two_before, before) != (b"count", b"(")
        if star or token.name in _PATHS or (token.text == b"(" and before == b"columns"):
            raise refusal(
                ACCESS_DENIED,
                "readers must name the columns of system.tables and system.databases, and may not "
                f"read {', '.join(sorted(_PATHS))}",
            )
