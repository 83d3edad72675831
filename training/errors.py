"""What can go wrong with runs: metrics that cannot be sent, weights of another kind."""

from disk import PortableError
from redact import redact_secrets


class TrackingError(OSError):
    """Metrics cannot be sent where they are asked for; the message says what to do, without secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(redact_secrets(message))


class CrossFitted(PortableError, ValueError):
    """The weights of one model are asked for, and the member consists of several."""

    def __init__(self, member: str, n_parts: int) -> None:
        self.member, self.n_parts = member, n_parts
        super().__init__(
            f"{member} was cross-fitted: it has the weights of {n_parts} models, and those of one were "
            "asked for; name a member that was trained without --cross-fit"
        )
