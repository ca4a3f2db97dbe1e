"""Settings of the eraser."""

from dataclasses import dataclass

from weir.settings.environment import setting


@dataclass(frozen=True)
class EraserSettings:
    erasure_key: str = setting(
        "",
        "key of the hash that is kept of an erased person; empty: the erasure's id is the key,"
        " and anybody who reads the hash can test guesses",
        secret=True,
    )
