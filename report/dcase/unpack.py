"""Opening a ZIP file that others made: whatever is wrong with it is a broken rule, and no error."""

import lzma
import stat
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from report.dcase.problems import BrokenRule

LONGEST_FILE = 2**28
"""Bytes of a file."""
MOST_BYTES = 2**30
"""Bytes of all files together."""
LONGEST_NAME = 255
"""Bytes of a part of a path that every file system takes."""

# Which of them a damaged or an encrypted file raises depends on its method and on which bytes are read first.
DAMAGED = (BadZipFile, EOFError, OSError, RuntimeError, UnicodeError, lzma.LZMAError, zlib.error)


def describe_damage(file: str, error: Exception) -> BrokenRule:
    """Return what is wrong with a ZIP file of which reading raised one of `DAMAGED`.

    Raises:
        OSError: this machine is at fault, as with a full disk.
    """
    # Damage has no number of the operating system.
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return BrokenRule(file=file, value=str(error), expected="a complete ZIP file")


def check_entries(file: str, archive: ZipFile) -> Iterator[BrokenRule]:
    """Find what would not become, on every machine, the file in a folder that its name says.

    Args:
        file: Name of the ZIP file, for the messages.
        archive: Is not unpacked.
    """
    entries = archive.infolist()
    counts = Counter(each.filename.rstrip("/") for each in entries)
    folders = {str(above) for name in counts for above in PurePosixPath(name).parents}
    for entry in entries:
        name = entry.filename
        if entry.file_size > LONGEST_FILE:
            value, expected = f"{entry.file_size:,} bytes", f"at most {LONGEST_FILE:,}"
        elif counts[name.rstrip("/")] > 1:
            value, expected = "is in it twice", "each file once"
        elif name in folders:
            value, expected = "is a file and a folder", "one of the two"
        elif (expected := _find_fault(entry)) is not None:
            value = f"path {name[:80]!r}"
        else:
            continue
        yield BrokenRule(file=name[:80], value=value, expected=expected)
    if (n_bytes := sum(each.file_size for each in entries)) > MOST_BYTES:
        expected = f"at most {MOST_BYTES:,}"
        yield BrokenRule(file=file, value=f"unpacks to {n_bytes:,} bytes", expected=expected)


def _find_fault(entry: ZipInfo) -> str | None:
    """Return what was expected instead of the path or the kind of an entry; None if it is right."""
    name, parts = entry.filename, entry.filename.rstrip("/").split("/")
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "a file, not a link to one"
    if "\\" in name or {"", ".", ".."} & set(parts):
        return "one below the folder that it is unpacked in"
    if max(len(part.encode()) for part in parts) > LONGEST_NAME:
        return f"names of at most {LONGEST_NAME} bytes"
    return None
