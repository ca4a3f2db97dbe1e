"""What keeps one machine from running Weir."""


class LocalFaultError(Exception):
    """Something on this machine is in the way; the text is one sentence that says what to do."""
