"""What can go wrong when metrics are sent to other programs."""

from redact import redact_secrets


class TrackingError(OSError):
    """Metrics cannot be sent where they are asked for; the message says what to do, without secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(redact_secrets(message))
