"""Settings of the eraser."""

from dataclasses import dataclass

from weir.settings.environment import setting


@dataclass(frozen=True)
class EraserSettings:
    erasure_key: str = setting(
        "",
        "keys the hash under which an erased person is remembered; empty: the erasure's id does,"
        " and whoever reads the hash can test guesses",
        secret=True,
    )
