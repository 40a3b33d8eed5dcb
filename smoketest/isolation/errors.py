"""What a test did that isolation does not allow."""


class IsolationError(RuntimeError):
    """A use of a database that isolation refuses."""


class TransactionEndedError(IsolationError):
    """A test ended the transaction that was to undo what it does."""
