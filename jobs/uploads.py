"""What of the working folder goes to a cluster, and how much that is."""

import logging
from dataclasses import dataclass
from pathlib import Path

from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

from jobs.command import UserError

logger = logging.getLogger(__name__)

MAX_BYTES = 50_000_000
"""Ray takes twice as much, and every node that comes downloads it before its first run."""
SHOWN = 10
"""Largest files that an error names."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The files of a folder that Ray uploads."""

    sizes: dict[str, int]
    """Bytes of each file, by its path from the folder."""

    @property
    def total_bytes(self) -> int:
        """Of all files; Ray packs them without compression."""
        return sum(self.sizes.values())

    def __str__(self) -> str:
        return f"{len(self.sizes):,} files, {self.total_bytes / 1e6:.1f} MB"


def upload_of(root: Path) -> Upload:
    """What Ray uploads of a folder: all but what .rayignore, .gitignore and Ray itself leave out.

    Raises:
        UserError: it is more than 50 MB; names the largest files.
    """
    sizes: dict[str, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(root).as_posix()] = path.stat().st_size

    # Ray's own walk: another reading of the ignore files would show what is not so.
    excludes = [_get_excludes(root, get_runtime_env_default_excludes())]
    _dir_travel(root, excludes, note, include_gitignore=True, logger=logger)
    upload = Upload(sizes)
    if upload.total_bytes > MAX_BYTES:
        largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:SHOWN]
        lines = "".join(f"\n  {sizes[name] / 1e6:8.1f} MB  {name}" for name in largest)
        raise UserError(
            f"{root}: {upload} would be uploaded to the cluster, expected at most "
            f"{MAX_BYTES / 1e6:.0f} MB; the largest:{lines}\nMove them elsewhere, or name them in "
            f"{root / '.rayignore'}"
        )
    return upload
