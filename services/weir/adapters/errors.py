"""Base exceptions of the adapters, independent of the technology behind them."""


class UnavailableError(Exception):
    """The server does not answer; the text is one sentence that says where and what to start."""


class RefusedError(Exception):
    """The server answered and refused; the text is its reason in one line."""

    passing = False  # whether the same request may succeed a moment later
