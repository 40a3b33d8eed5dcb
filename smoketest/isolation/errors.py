"""Exceptions for what isolation does not allow."""


class IsolationError(RuntimeError):
    """A smoke test tried something that isolation refuses."""

    #: Whether a result already reports the error.
    is_reported = False


class RefusedStatementError(IsolationError):
    """A statement or driver call would have ended the transaction or changed its limits.

    The test is errored even if the code under test catches the exception.
    """


class TransactionEndedError(IsolationError):
    """A test ended its transaction, so its changes may have been committed."""
