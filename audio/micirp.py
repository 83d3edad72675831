"""MicIRP's impulse responses of microphones: whether a folder has them all, and those that TAU has too.

Source: micirp.blogspot.com and Xaudia.com, CC BY-SA 4.0, as ASCDomain and cpjku_dcase23 pass them on. Here are
names and hashes only.
"""

import csv
import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio.impulse_responses import identify_responses, list_responses

LIST = Path(__file__).with_name("micirp.csv")
"""Name and SHA-256 of each of the 66 files."""
UNSEEN_MICROPHONES: Mapping[str, str] = {
    "Shure 510C": "IR_Shure510C.wav",
    "AKG D12": "IR_AKGD12.wav",
    "Foster Dynamic DF1": "IR_FosterDynamicDF1.wav",
}
"""The microphones by whose responses TAU's devices s4, s5 and s6 are simulated, and their files. Who hears
them in training knows these devices, which are in no training clip."""
UNSEEN_DEVICES = ("s4", "s5", "s6")
WHOLE = "00605d68622a"
"""What stands for the whole folder in records, also in those of before there was HEARD_UNSEEN."""
HEARD_UNSEEN = "unseen_microphones"
"""Entry of a record: which of them are among its impulse responses; absent if none is."""


@dataclass(frozen=True, slots=True)
class MicIRP:
    """How far a folder is MicIRP."""

    n_files: int
    """Number of its files that are there as they were published."""
    lacking: tuple[str, ...]
    changed: tuple[str, ...]
    """Files with a name of its, and another content."""
    n_others: int
    """Number of files with other names."""

    def __str__(self) -> str:
        """Say what is there and what is not, in one line."""
        parts = [f"{self.n_files} of the {len(read_list())} files of MicIRP"]
        parts += [f"without {', '.join(self.lacking)}"] if self.lacking else []
        parts += [f"other content in {', '.join(self.changed)}"] if self.changed else []
        parts += [f"and {self.n_others} other files"] if self.n_others else []
        return "; ".join(parts)


@functools.cache
def read_list() -> Mapping[str, str]:
    """Return the SHA-256 of each file of MicIRP, by its name."""
    with LIST.open(encoding="utf-8", newline="") as opened:
        return {row["file"]: row["sha256"] for row in csv.DictReader(opened)}


def check_micirp(folder: Path) -> MicIRP | None:
    """Compare a folder with MicIRP by names and contents; None if it has no file with a name of its.

    Raises:
        FileNotFoundError: there is no such folder, or no impulse response in it.
        UnfitName, UnfitSound: a file has no usable name, or is no regular file.
    """
    expected, found = read_list(), _hash_files(folder)
    named = found.keys() & expected.keys()
    if not named:
        return None
    changed = tuple(sorted(name for name in named if found[name] != expected[name]))
    lacking = tuple(name for name in expected if name not in found)
    return MicIRP(len(named) - len(changed), lacking, changed, len(found) - len(named))


def find_unseen_microphones(folder: Path | None) -> dict[str, str]:
    """Return which microphones of TAU's unseen devices a folder has, each with its file's name there.

    They are found by content, whatever their file is called, and by name, whatever is in it. None, the
    synthetic set, has none of them.

    Raises:
        As for `check_micirp`.
    """
    if folder is None:
        return {}
    expected, found = read_list(), _hash_files(folder)
    there = {}
    for microphone, file in UNSEEN_MICROPHONES.items():
        known = _simplify(microphone)
        matching = [
            name
            for name, sha256 in found.items()
            if sha256 == expected[file] or known in _simplify(Path(name).stem)
        ]
        if matching:
            there[microphone] = matching[0]
    return there


def describe_responses(folder: Path | None) -> dict[str, Any]:
    """Return what a record says of the impulse responses that a run may hear.

    Args:
        folder: of the impulse responses; None for the synthetic set.
    """
    unseen = list(find_unseen_microphones(folder))
    return {"responses": identify_responses(folder)} | ({HEARD_UNSEEN: unseen} if unseen else {})


@functools.lru_cache(maxsize=8)
def _hash_files(folder: Path) -> Mapping[str, str]:
    # Every run of a plan asks for it.
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in list_responses(folder)
    }


def _simplify(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
