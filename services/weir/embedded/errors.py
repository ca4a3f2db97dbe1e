"""Errors that keep this machine from running Weir."""


class LocalFaultError(Exception):
    """Something on this machine prevents a start; the text is one sentence that says what to do."""
