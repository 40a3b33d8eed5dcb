"""What a test did that isolation does not allow."""


class IsolationError(RuntimeError):
    """A use of a database that isolation refuses."""

    #: Whether a result tells of it already.
    is_reported = False


class RefusedStatementError(IsolationError):
    """A statement, or a call of the driver, that would end the test's transaction or lift a limit.

    The test is errored for it even where the code under test swallows the exception.
    """


class TransactionEndedError(IsolationError):
    """A test ended the transaction that was to undo what it does."""
