"""List the sound files of folders: one rule for corpora, classification and impulse responses.

Hidden files and folders (`.DS_Store`, `._a.wav`) are passed over, and so are files with other suffixes.
A name that is not UTF-8 is refused, and so is what would be waited for: pipes, sockets, devices.
"""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from audio.errors import UnfitName, UnfitSound

SUFFIXES = frozenset(
    [".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64"]
    + [".snd", ".w64", ".wav"]
)


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders and the files in a folder by name, without hidden ones."""
    folders, files = [], []
    # Not Path.iterdir: asking whether each of 76,000 files is a folder takes seconds over a network.
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.name.startswith("."):
                (folders if is_folder(entry) else files).append(Path(entry.path))
    return folders, files


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder; a link in a circle is none, and opening it says so."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def list_sound_files(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """Return the sound files in a folder by name, without those in its folders."""
    return [file for file in list_folder(folder)[1] if has_suffix(file, suffixes)]


def walk_sound_files(folder: Path) -> Iterator[Path]:
    """Yield the sound files in a folder, and then those in its folders; no links to folders.

    What cannot be listed, because it is no folder or access is denied, stands for itself.
    """
    try:
        folders, files = list_folder(folder)
    except OSError:
        yield folder
        return
    yield from (file for file in files if has_suffix(file))
    for inside in folders:
        if not inside.is_symlink():
            yield from walk_sound_files(inside)


def has_suffix(file: Path, suffixes: Collection[str] = SUFFIXES) -> bool:
    """Return whether a file's suffix, in lower case, is one of these."""
    return file.suffix.lower() in suffixes


def check_name(path: Path) -> None:
    """Check that a path can be written in UTF-8, as stores, tables and consoles do.

    Raises:
        UnfitName: It cannot.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UnfitName(f"{show_name(path)}: the name is not UTF-8; rename it") from error


def check_regular(file: Path) -> None:
    """Check that a file is a regular one: others are waited for, perhaps for ever.

    Raises:
        UnfitSound: It is something else.
        OSError: There is no such file, or its link leads nowhere.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise UnfitSound("is no regular file, but a folder, pipe, socket or device; remove it")


def show_name(path: Path) -> str:
    r"""Return a path as text that every console prints: bytes that are not UTF-8 as \xe9."""
    return os.fsencode(path).decode(errors="backslashreplace")
