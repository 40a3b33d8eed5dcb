"""What can go wrong on the way out."""


class ExportError(Exception):
    """The metrics could not be handed over; the message says why and what to do."""
