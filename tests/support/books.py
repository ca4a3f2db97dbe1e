"""Waits for the books: as long as something moves, however slow the machine, and no longer."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Books = dict[str, Any]

LOOK_SECONDS = 20
STILL_LOOKS = 4  # in which nothing moved: then nothing will


def settled_books(run: Run, *options: str) -> Books:
    """What `weir audit --json` says once nothing is in flight and everything balances.

    `AssertionError`: it does not come to that, and nothing has moved for a while. `run` runs a command of `weir`.
    """
    code, books = _moved(run, options, lambda code, _: code == 0)
    assert code == 0, f"the books do not settle: {json.dumps(books)[-4_000:]}"
    return books


def passed_through(run: Run) -> None:
    """Everything that was written is through, whether or not the books balance. `AssertionError` as above."""
    _, books = _moved(run, (), lambda _, books: not any(books["in_flight"].values()))
    assert not any(books["in_flight"].values()), f"still in flight: {books['in_flight']}"


def _moved(
    run: Run, options: tuple[str, ...], done: Callable[[int, Books], bool]
) -> tuple[int, Books]:
    """The first look that is `done`, or the last one of several that are all the same."""
    before: object = None
    still = 0
    while True:
        look = run("audit", "--json", "--wait", str(LOOK_SECONDS), *options)
        assert look.returncode in (0, 1), look.stderr
        books: Books = json.loads(look.stdout)
        moved = (books["in_flight"], books["unread"], books["pages"])
        still = still + 1 if moved == before else 0
        before = moved
        if done(look.returncode, books) or still == STILL_LOOKS:
            return look.returncode, books
