"""The corpora by name; one file each."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from audio.clips import Corpus, CorpusError
from audio.corpora import cochlscene, demo, folder, tau

CorpusName = Literal["demo", "tau", "cochlscene", "folder"]

_READERS: dict[CorpusName, Callable[[Path], Corpus]] = {
    "tau": tau.read,
    "cochlscene": cochlscene.read,
    "folder": folder.read,
}


def read(name: CorpusName, root: Path | None) -> Corpus:
    """The corpus of that name in `root` (the demo corpus brings its own).

    Raises:
        CorpusError: no root was given, or what lies there is not such a corpus.
    """
    if name == "demo":
        return demo.read(root or demo.DEMO_ROOT)
    if root is None:
        raise CorpusError(f"corpus {name}: say where its files are: --root FOLDER")
    return _READERS[name](root)
