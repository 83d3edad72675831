"""The corpora by name; each is one module."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from audio.clips import Corpus
from audio.corpora import cochlscene, demo, folder, tau
from audio.errors import CorpusError
from audio.lengths import TOLERANCE
from audio.pools import make_pool_corpus
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


def read_pool(name: CorpusName, root: Path, clip_duration_s: float) -> Corpus:
    """Return the clips of a corpus as a pool for a corpus with clips of this duration.

    A folder needs no classes: all sound in it and in its folders is cut into clips of that duration.

    Raises:
        CorpusError: There is no such corpus, or its clips have another duration.
    """
    check_name(root)
    if name == "folder":
        return make_pool_corpus(folder.read_pool(root, clip_duration_s))
    corpus = read(name, root)
    if abs(corpus.clip_duration_s - clip_duration_s) > TOLERANCE * clip_duration_s:
        raise CorpusError(
            f"{root}: clips of {corpus.clip_duration_s:g} s cannot be a pool for clips of "
            f"{clip_duration_s:g} s; name its audio as folder:{root}, and it is cut to them"
        )
    return make_pool_corpus(replace(corpus, clip_duration_s=clip_duration_s))
