"""The corpora by name; each is one module."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from audio.clips import Corpus
from audio.corpora import cochlscene, demo, folder, tau
from audio.errors import CorpusError
from audio.sound_folders import check_name

CorpusName = Literal["demo", "tau", "cochlscene", "folder"]

_READERS: dict[CorpusName, Callable[[Path], Corpus]] = {
    "tau": tau.read,
    "cochlscene": cochlscene.read,
    "folder": folder.read,
}


def read(name: CorpusName, root: Path | None) -> Corpus:
    """Return the corpus with this name in `root`; the demo corpus has a root of its own.

    Raises:
        CorpusError: No root is given, its name is not UTF-8, or there is no such corpus in it.
    """
    if name == "demo":
        return demo.read(root or demo.DEMO_ROOT)
    if root is None:
        raise CorpusError(f"corpus {name}: say where its files are: --root FOLDER")
    check_name(root)
    return _READERS[name](root)
