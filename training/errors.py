"""What can go wrong when metrics are sent to other programs."""


class TrackingError(OSError):
    """Metrics cannot be sent where they are asked for; the message says what to do."""
