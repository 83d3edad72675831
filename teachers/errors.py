"""What can go wrong with teachers and their weights."""

from disk import PortableError
from redact import redact_secrets


class UnknownTeacher(ValueError):
    """There is no teacher of that name, or it has no such weights; the message lists what exists."""


class UnfitClips(ValueError):
    """A teacher's model does not take a corpus's clips through its front-end."""


class WeightsError(PortableError):
    """The base of all errors about weights; they hold no secrets.

    WeightsError
    ├── MissingWeights   (also a FileNotFoundError) not on this machine, and cannot be fetched
    ├── DamagedWeights   (also an OSError) not the bytes that were fetched before
    └── UnfitWeights     (also a ValueError) not a state dict, or that of another architecture
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact_secrets(message))


class MissingWeights(WeightsError, FileNotFoundError):
    """Weights are not on this machine and could not be fetched."""

    def __init__(self, address: str, reason: str, way_out: str) -> None:
        self.address, self.reason, self.way_out = map(redact_secrets, (address, reason, way_out))
        super().__init__(f"no weights from {address}: {reason}\n{way_out}")


class DamagedWeights(WeightsError, OSError):
    """A file differs from what it was when it was fetched."""

    def __init__(self, place: str, problem: str, way_out: str) -> None:
        self.place, self.problem, self.way_out = place, problem, way_out
        super().__init__(f"{place}: {problem}\n{way_out}")


class UnfitWeights(WeightsError, ValueError):
    """A file is not a state dict, or its keys or shapes are not those of the architecture."""

    def __init__(self, file: str, problem: str, way_out: str) -> None:
        self.file, self.problem, self.way_out = file, problem, way_out
        super().__init__(f"{file} {problem}\n{way_out}")
