"""Goals that are kept in memory, decided as those of the registry are."""

from collections.abc import Sequence
from typing import Any

from weir.adapters.errors import UnavailableError
from weir.registry.follower import Goals
from weir.registry.goal_log import GoalQuestion, decide_all, entries_of


class GoalsInMemory:
    """As `GoalLog`, of brokers that take what is written while `durable` is true."""

    def __init__(self, durable: bool = True) -> None:
        self.durable = durable
        self.goals = Goals()

    def decide(self, questions: Sequence[GoalQuestion]) -> list[Any]:
        decisions = decide_all(questions, self.goals)
        entries = entries_of(decisions)
        if entries and not self.durable:
            raise UnavailableError("nobody answers")
        for key, value in entries:
            self.goals.apply(key, value)
        return [decision.answer for decision in decisions]
