"""Folders that appear whole or not at all: written under a temporary name, then renamed."""

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from disk.whole import write_whole


def check_empty(folder: Path) -> None:
    """Refuse a folder in which there is something.

    Raises:
        OSError: names the folder and a file in it.
    """
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    if inside:
        raise OSError(
            f"{folder}: is not empty (it has {inside[0].name}): name a new folder, or empty it"
        )


def write_whole_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder that appears with all of its files, or not at all.

    Args:
        folder: new or empty; missing folders above it are made.
        files: the content of each file, by name.

    Raises:
        OSError: there is something in the folder, or it cannot be written.
    """
    check_empty(folder)
    place = folder.resolve()
    temporary = place.with_name(f".{place.name}-{secrets.token_hex(4)}.tmp")
    try:
        for name, content in files.items():
            # Each would survive a power failure, and so does the folder that is renamed.
            write_whole(temporary / name, content)
        # This replaces an empty folder, and no other one.
        temporary.rename(place)
    except OSError as error:
        if error.errno is None:
            raise
        # The name of a temporary folder means nothing to people.
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
