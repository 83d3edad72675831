"""The files of the working folder that are uploaded to a cluster, and their size."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from terminal.console import UserError
from terminal.tables import format_count

MAX_UPLOAD_BYTES = 50_000_000
"""Ray accepts twice as much, and every new node downloads it before its first run."""
FILES_NAMED = 10
"""Number of the largest files that an error names."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The files of a folder that Ray uploads."""

    sizes: dict[str, int]
    """Bytes of each file, by its path from the folder."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all files; Ray packs them without compression."""
        return sum(self.sizes.values())

    def __str__(self) -> str:
        return f"{format_count(len(self.sizes), 'file')}, {self.total_bytes / 1e6:.1f} MB"


def find_upload(root: Path) -> Upload:
    """Return the files of a folder that Ray uploads: all that .rayignore, .gitignore and Ray keep.

    Raises:
        UserError: they are larger than 50 MB; the message names the largest.
    """
    # Ray takes seconds to import, and other functions of this module do not need it.
    from jobs.schedule.ray_private import walk_upload

    sizes: dict[str, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(root).as_posix()] = path.stat().st_size

    walk_upload(root, note)
    upload = Upload(sizes)
    if upload.total_bytes > MAX_UPLOAD_BYTES:
        largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:FILES_NAMED]
        lines = "".join(f"\n  {sizes[name] / 1e6:8.1f} MB  {name}" for name in largest)
        raise UserError(
            f"{root}: {upload} would be uploaded to the cluster, expected at most "
            f"{MAX_UPLOAD_BYTES / 1e6:.0f} MB; the largest:{lines}\nMove them elsewhere, or name them in "
            f"{root / '.rayignore'}"
        )
    return upload


def is_uploaded() -> bool:
    """Return whether this job runs from an uploaded copy of the working folder."""
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return bool(submitted.get("runtime_env", {}).get("working_dir"))
