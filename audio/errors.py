"""Errors about a corpus and its audio files. Whoever catches them imports nothing else.

- CorpusError: the tables and folders of a corpus contradict each other.
- UnfitName: a file or folder of it has a name that is not UTF-8.
- UnfitSound: a file cannot be read as sound.
- UnfitLength: its clips cannot be brought to the requested length.
- BrokenAudio: some of its files cannot be decoded; lists a BrokenClip for each.
- CacheFull: there is no room for its decoded clips.
"""

from dataclasses import dataclass
from pathlib import Path

from disk import PortableError

_CLIPS_LISTED = 20


class CorpusError(ValueError):
    """The files of a corpus contradict each other; names the file, row, value and way out."""


class UnfitName(CorpusError):
    """The name of a file or folder is not UTF-8; the message shows it with its bytes escaped."""


class UnfitSound(ValueError):
    """Sound that cannot be read; the message says why and what to do, but does not name the file."""


class UnfitLength(PortableError, ValueError):
    """The clips of a corpus cannot be brought to the requested length in the requested way."""

    def __init__(self, how: str, asked_s: float, clip_s: float) -> None:
        self.how, self.asked_s, self.clip_s = how, asked_s, clip_s
        rule = "cannot make clips longer" if how == "crop" else "can only make clips longer"
        other = "repeat or pad" if how == "crop" else "crop"
        super().__init__(
            f"clips of {clip_s:g} s cannot become {asked_s:g} s by {how}, which {rule}; "
            f"ask for {'at most' if how == 'crop' else 'at least'} {clip_s:g} s, use {other}, "
            "or native to take clips as they are"
        )


@dataclass(frozen=True, slots=True)
class BrokenClip:
    """A file that could not be decoded into a clip, and the reason."""

    file: str
    reason: str


class BrokenAudio(PortableError):
    """Some clips of a corpus cannot be read; `broken` lists them."""

    def __init__(self, corpus: str, root: Path, n_clips: int, broken: list[BrokenClip]) -> None:
        self.corpus, self.root, self.n_clips, self.broken = corpus, root, n_clips, broken
        lines = "\n".join(f"  {clip.file}: {clip.reason}" for clip in broken[:_CLIPS_LISTED])
        n_more = len(broken) - _CLIPS_LISTED
        more = f"\n  and {n_more} more" if n_more > 0 else ""
        super().__init__(
            f"{len(broken)} of {n_clips} clips of corpus {corpus} in {root} cannot be read:\n"
            f"{lines}{more}\nRepair these files or download them again, or leave them out: "
            "python jobs/prepare.py --leave-out-broken (with the same --corpus, --root, --store)"
        )


class CacheFull(PortableError, OSError):
    """The disk has no room for the decoded clips of a corpus."""

    def __init__(self, folder: Path, *, needed: int, free: int, reason: str) -> None:
        self.folder, self.needed, self.free, self.reason = folder, needed, free, reason
        super().__init__(
            f"{folder}: no room for the decoded clips ({reason}): they need {needed:,} bytes more, and "
            f"{free:,} are free: free some space, or name a folder on another disk with TUTTI_CACHE"
        )
