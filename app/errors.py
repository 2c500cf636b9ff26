"""The errors a user is meant to read: each names the offending value, what was expected and the remedy."""


class ContinuumError(Exception):
    """Base of all errors that the application raises on purpose.

    The command line prints its text and exits with `exit_code`; anything else is a defect and keeps its
    traceback.
    """

    exit_code = 2
