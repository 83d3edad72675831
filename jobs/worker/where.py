"""Opens corpora and stores on any node, and decodes corpora."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from audio import corpora, waveforms
from audio.clips import Corpus
from audio.corpora import CorpusName
from audio.errors import BrokenAudio
from audio.pools import (
    OWN_UNLABELLED,
    REST,
    Pool,
    find_pools,
    refuse_leaks,
    refuse_same_audio,
)
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


@dataclass(frozen=True, slots=True)
class PoolAt:
    """A pool, as a worker of any node can open it."""

    word: str
    """`rest`, `unlabelled`, or CORPUS:ROOT with an address or the absolute path of a folder."""
    version: str | None = None
    """Version of the files at the root's address; see `jobs.worker.staging`."""

    @classmethod
    def of(cls, word: str) -> "PoolAt":
        """Make it of a word as a user typed it; an address is copied to this node.

        Raises:
            ValueError: it is no such word.
        """
        named = parse_pool_word(word)
        if named is None:
            return cls(word)
        name, root = named
        if is_address(root):
            return cls(word, _stage(root).version)
        return cls(f"{name}:{make_absolute(Path(root))}")


def parse_pool_word(word: str) -> tuple[CorpusName, str] | None:
    """Return the corpus and the root of CORPUS:ROOT; None for `rest` and `unlabelled`.

    Raises:
        ValueError: it is none of these.
    """
    if word in (REST, OWN_UNLABELLED):
        return None
    given, _, root = word.partition(":")
    names: tuple[CorpusName, ...] = get_args(CorpusName)
    name = next((name for name in names if name == given), None)
    if name is None or not root:
        raise ValueError(
            f"expected {REST}, {OWN_UNLABELLED} or CORPUS:ROOT with {', '.join(names)} as CORPUS"
        )
    return name, root


def open_pool(pool: PoolAt, clip_duration_s: float) -> Corpus:
    """Read another corpus as a pool for a corpus with clips of this duration.

    Raises:
        CorpusError: there is no such corpus, or its clips have another duration.
        ValueError: the pool is a part of the corpus that it is for.
    """
    named = parse_pool_word(pool.word)
    if named is None:
        raise ValueError(f"pool {pool.word} is no corpus of its own")
    name, root = named
    return corpora.read_pool(name, _find_folder(root, pool.version), clip_duration_s)


def open_pools(pools: Sequence[PoolAt], corpus: Corpus, split: int) -> tuple[Pool, ...]:
    """Open the pools for a split of a corpus, and make sure that nothing in them judges in it.

    Their audio is not compared: `audio.pools.refuse_same_audio` does that once it is decoded.

    Raises:
        CorpusError: a pool has no clip, is there twice, or has a clip or recording that judges.
    """
    at = {pool.word: pool for pool in pools}
    found = find_pools(
        corpus, split, [*at], lambda word: open_pool(at[word], corpus.clip_duration_s)
    )
    refuse_leaks(corpus, split, found)
    return found


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


def prepare_pool(pool: Corpus, store: LogitStore, sample_rates: set[int]) -> None:
    """Do for another corpus that is a pool what `prepare` does for a corpus.

    Raises:
        UserError: some files cannot be read.
    """
    try:
        prepare(pool, store, sample_rates)
    except BrokenAudio as error:
        first = error.broken[0]
        raise UserError(
            f"pool {pool.name}: {format_count(len(error.broken), 'file')} in {pool.root} cannot be read, "
            f"the first is {first.file}: {first.reason}; repair them, or move them out of this folder"
        ) from error


def check_audio_of_pools(
    corpus: Corpus, splits: Iterable[int], pools: Sequence[Pool], sample_rate: int
) -> None:
    """Make sure that no audio of decoded pools judges in these splits, and say what is learnt twice.

    Raises:
        CorpusError: a pool has the audio of a clip that judges.
    """
    for split in sorted(splits):
        n_known = refuse_same_audio(corpus, split, pools, sample_rate)
        if n_known:
            console.print(
                f"split {split}: {format_count(n_known, 'clip')} of the pools have the same audio as clips "
                "of fit, which may be"
            )


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
