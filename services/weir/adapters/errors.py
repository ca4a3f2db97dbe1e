"""How an edge says that the world is not as it should be, whatever the technology."""


class NotReachedError(Exception):
    """Nobody answers; the text is one sentence that says where and what to start."""


class RefusedError(Exception):
    """It answered, and refused; the text is its reason in one line."""

    passing = False  # whether the same may be taken a moment later
