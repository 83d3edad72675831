"""What the options of commands may be: a type for each value, checked before a command does anything.

An option is declared with one of the types below, or as `Annotated[int, whole(1, 100)]` and the like;
`terminal.parse_options` refuses every other value.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

LONGEST_NAME = 255
"""Characters of a name of something that exists: file systems allow no more."""
LONGEST_NEW_NAME = 200
"""Leaves room for a fingerprint and an ending."""
LARGEST_SEED = 2**63 - 1
"""Seeds are 64-bit integers in the tables of a store."""


@dataclass(frozen=True, slots=True)
class Check:
    """The values that an option accepts."""

    find_fault: Callable[[Any], str | None]
    """Says what was expected instead of a value; None if the value is accepted."""


def expect(words: str, accepts: Callable[[Any], bool]) -> Check:
    """Return a check that accepts some values, and describes them with these words."""
    return Check(lambda value: None if accepts(value) else f"expected {words}")


def whole(low: int, high: int) -> Check:
    """Return a check for whole numbers from low to high."""
    return expect(f"a whole number from {low:,} to {high:,}", lambda value: low <= value <= high)


def above(low: float, *, to: float) -> Check:
    """Return a check for numbers above `low` and up to `to`, and so for no nan."""
    return expect(f"a number above {low:g}, at most {to:,.15g}", lambda value: low < value <= to)


def obey(rule: Callable[[Any], object]) -> Check:
    """Return a check for values that a function takes without a ValueError."""

    def find_fault(value: Any) -> str | None:
        try:
            rule(value)
        except ValueError as error:
            return str(error)
        return None

    return Check(find_fault)


def each_once(values: Sequence[Any]) -> str | None:
    """Return which value is there twice, as a fault."""
    repeated = [str(value) for index, value in enumerate(values) if value in values[:index]]
    return f"expected each value once, and {repeated[0]} is repeated" if repeated else None


def match(words: str, pattern: str, *, longest: int = LONGEST_NAME) -> Check:
    """Return a check for texts of at most `longest` characters that match a pattern."""
    form = re.compile(pattern)
    return expect(
        f"{words}, at most {longest:,} characters",
        lambda value: len(value) <= longest and form.fullmatch(value) is not None,
    )


def find_fault_of_path(path: Path, *, is_folder: bool, is_written: bool = False) -> str | None:
    """Return why a path cannot be used, if something else is there or in the way.

    That nothing is there is no fault: the command says what it misses, or makes it.

    Args:
        path: as it was typed.
        is_folder: whether it is to be a folder, not a file.
        is_written: whether something will be written there.
    """
    try:
        path = path.expanduser().absolute()
        there = next(each for each in (path, *path.parents) if each.exists())
        has_folder = there.is_dir()
    except OSError as error:  # A name that is too long, a folder that must not be searched.
        return f"expected a usable path: {error.strerror}"
    except RuntimeError:
        return "expected a path without ~, or HOME set, because there is no such home directory"
    needs_folder = is_folder or there != path
    if has_folder != needs_folder:
        wanted, found = ("folder", "file") if needs_folder else ("file", "folder")
        return f"expected a {wanted}, and {there} is a {found}"
    folder = there if has_folder else there.parent
    if is_written and not os.access(folder, os.W_OK | os.X_OK):
        return f"expected a place to write to, and you may not write to {folder}"
    return None


Seed = Annotated[int, whole(0, LARGEST_SEED)]
Seeds = Annotated[tuple[Seed, ...], Check(each_once)]
Count = Annotated[int, whole(1, 1_000_000)]
"""Of epochs, trials, clips and the like."""
Steps = Annotated[int, whole(1, 1_000_000_000)]
Size = Annotated[int, whole(1, 2**63 - 1)]
"""Of bytes and of multiply-accumulates."""
SampleRate = Annotated[int, whole(1_000, 384_000)]

Text = Annotated[str, expect("text", lambda value: bool(value.strip()))]
"""Any text, such as a query."""
Line = Annotated[str, match("one line of text", r"[^\x00-\x1f\x7f\u2028\u2029]*", longest=4_000)]
"""Shown in messages: the name of a task, an address."""
_NAME, _NAME_IN_WORDS = (
    r"[A-Za-z0-9_-][A-Za-z0-9._-]*",
    "letters, digits, '.', '_' and '-' only, the first of them no '.'",
)
Name = Annotated[str, match(_NAME_IN_WORDS, _NAME)]
"""Of a member, a job, a corpus."""
NewName = Annotated[str, match(_NAME_IN_WORDS, _NAME, longest=LONGEST_NEW_NAME)]
"""Becomes a part of the names of files."""
Reference = Annotated[
    str,
    match(
        "letters, digits, '.', '_' and '-' only, and '@' before a hash",
        rf"{_NAME}(@[0-9a-f]+)?",
    ),
]
"""NAME or NAME@HASH of an ensemble."""
Pattern = Annotated[
    str,
    match(
        "a name or a pattern with *, ? or [...], without '/' and spaces",
        r"[^\x00-\x20\x7f/\u2028\u2029]+",
    ),
]
"""Names of members or recipes."""

Folder = Annotated[Path, Check(lambda path: find_fault_of_path(path, is_folder=True))]
File = Annotated[Path, Check(lambda path: find_fault_of_path(path, is_folder=False))]
NewFolder = Annotated[
    Path, Check(lambda path: find_fault_of_path(path, is_folder=True, is_written=True))
]
"""A folder that a command writes to; it may exist."""
NewFile = Annotated[
    Path, Check(lambda path: find_fault_of_path(path, is_folder=False, is_written=True))
]
"""A file that a command writes; it may exist."""
NewPath = Annotated[
    Path,
    Check(
        lambda path: find_fault_of_path(path, is_folder=path.expanduser().is_dir(), is_written=True)
    ),
]
"""A file or a folder that a command writes; it may exist."""
AnyPath = Annotated[
    Path, Check(lambda path: find_fault_of_path(path, is_folder=path.expanduser().is_dir()))
]
"""A folder or a file."""


def find_fault_of_address(address: str) -> str | None:
    """Return why this is neither a folder nor s3://BUCKET/PREFIX, as a fault."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return find_fault_of_path(Path(address), is_folder=True)
    if scheme == "s3" and re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*(/|$)", rest):
        return None
    hint = (
        ": Google Cloud Storage speaks S3 too, with AWS_ENDPOINT_URL=https://storage.googleapis.com "
        "and an HMAC key"
    )
    return f"expected a folder, or s3://BUCKET/PREFIX{hint if scheme == 'gs' else ''}"


Address = Annotated[str, Check(find_fault_of_address)]
"""A folder, or s3://BUCKET/PREFIX."""


def find_fault_of_root(root: str) -> str | None:
    """Return why this is neither an address nor a table of clips (`.csv`), as a fault."""
    is_table = "://" not in root and root.lower().endswith(".csv")
    if not is_table or Path(root).expanduser().is_dir():
        return find_fault_of_address(root)
    return find_fault_of_path(Path(root), is_folder=False)


Root = Annotated[str, Check(find_fault_of_root)]
"""Where a corpus is: an address, or a table of its clips."""
