"""Opens corpora and stores on any node, and decodes corpora."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audio import corpora, waveforms
from audio.clips import Corpus
from audio.corpora import CorpusName
from logit_store import LogitStore, MissingClips, MissingStore
from terminal.console import UserError, console, progress_bar
from terminal.tables import format_count

if TYPE_CHECKING:
    from jobs.worker.staging import Staged


@dataclass(frozen=True, slots=True)
class Where:
    """A corpus and a store, as a worker of any node can open them."""

    corpus: CorpusName
    root: str | None
    """An address, or the absolute path of a folder."""
    store: str
    """The store's address, or the absolute path of its folder."""
    version: str | None = None
    """Version of the files at the root's address; see `jobs.worker.staging`."""

    @classmethod
    def of(cls, corpus: CorpusName, root: str | None, store: LogitStore) -> "Where":
        """Make it for a root as a user typed it."""
        if root is None or not is_address(root):
            return cls(corpus, root and str(make_absolute(Path(root))), store.address)
        return cls(corpus, root, store.address, _stage(root).version)

    def open(self) -> tuple[LogitStore, Corpus]:
        """Open both; the corpus is without the clips that the store leaves out."""
        store = LogitStore(self.store)
        return store, open_corpus(self.corpus, self.root, store, self.version)[0]


def is_address(root: str) -> bool:
    """Return whether a corpus's root is an address, and not a folder of this machine."""
    return "://" in root


def make_absolute(path: Path | None) -> Path | None:
    """Return a path that does not depend on the folder in which a worker runs."""
    return path and path.expanduser().absolute()


def read_corpus(name: CorpusName, root: str | None, store: LogitStore) -> Corpus:
    """Read a corpus without the clips that the store leaves out, and print their number."""
    corpus, left_out = open_corpus(name, root, store)
    if left_out:
        console.print(
            f"left out {format_count(left_out, 'clip')} of {corpus.root} not among those of this store "
            "(another --store would take them)",
            markup=False,
        )
    return corpus


def open_corpus(
    name: CorpusName, root: str | None, store: LogitStore, version: str | None = None
) -> tuple[Corpus, int]:
    """Read a corpus without the clips that the store leaves out; return it and their number."""
    corpus = corpora.read(name, None if root is None else _find_folder(root, version))
    try:
        kept = corpus.keep(store.read_clips(corpus.name)["clip_id"].to_pylist())
    except (MissingStore, MissingClips):
        return corpus, 0
    if len(kept) == 0:
        raise UserError(
            f"--root {root}: none of its {len(corpus)} clips is among those of {store.address}; "
            "give another --store"
        )
    return kept, len(corpus) - len(kept)


def _find_folder(root: str, version: str | None) -> Path:
    """Return the folder of a corpus's files on this node."""
    if is_address(root):
        return _stage(root, version).folder
    return Path(root).expanduser().absolute()


def _stage(root: str, version: str | None = None) -> "Staged":
    # The client of S3 takes half a second to import, and most corpora are in folders.
    from jobs.worker.staging import stage

    return stage(root, version)


def prepare(corpus: Corpus, store: LogitStore, sample_rates: set[int]) -> None:
    """Decode the clips that are not decoded yet, and write the table of clips to the store.

    Raises:
        BrokenAudio: some files cannot be read.
        LogitStoreError: the store has another corpus of that name.
        UserError: the store cannot hold such a corpus.
    """
    decode(corpus, sample_rates)
    try:
        store.write_clips(corpus.name, corpus.clips_table())
    except ValueError as error:
        raise UserError(str(error)) from error


def decode(corpus: Corpus, sample_rates: set[int]) -> None:
    """Decode the clips that are not decoded yet, and print what was changed in them.

    Raises:
        BrokenAudio: some files cannot be read.
    """
    for sample_rate in sorted(sample_rates):
        with progress_bar() as bar:
            task = bar.add_task(f"decode to {sample_rate} Hz", total=None)
            decoded = waveforms.decode_corpus(
                corpus,
                sample_rate,
                on_progress=lambda done, total, task=task, bar=bar: bar.update(
                    task, completed=done, total=total
                ),
            )
        if decoded.mixed_down:
            console.print(
                f"{format_count(decoded.mixed_down, 'clip')} had several channels: took the mean of these"
            )
        if decoded.saturated:
            console.print(
                f"{format_count(decoded.saturated, 'clip')} went beyond full scale: cut off there"
            )
