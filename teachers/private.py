"""Weights at an address with a password or a signature: only their hash may be kept or said."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from teachers.errors import DamagedWeights
from teachers.fetch import fetch_file
from teachers.fetched import hash_file
from teachers.transfer import OnDownload


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateWeights:
    """Where weights are, for those who fetch them, and what they are, for everybody."""

    address: str = field(repr=False)
    """With its secrets."""
    sha256: str
    """Of the file: another signature of the same file gives the same result."""

    @classmethod
    def of(cls, address: str, on_progress: OnDownload = lambda done, total: None) -> Self:
        """Fetch the file to this machine, and hash it.

        Raises:
            ValueError, MissingWeights: as `fetch_file`.
        """
        return cls(address=address, sha256=hash_file(fetch_file(address, on_progress=on_progress)))

    def fetch(self) -> Path:
        """Return the file on this machine.

        Raises:
            MissingWeights: it is not here and cannot be fetched.
            DamagedWeights: the address gives another file than when the run was planned.
        """
        place = fetch_file(self.address)
        found = hash_file(place)
        if found != self.sha256:
            raise DamagedWeights(
                str(place),
                f"sha256 {found}, but it was {self.sha256} when the run was planned",
                "Delete the file, and start the same command again",
            )
        return place
