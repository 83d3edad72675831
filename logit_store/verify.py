"""Reads all of a store again and names what is not as it was written (N clips, K classes)."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from logit_store import catalogue, clips_file, logits_file
from logit_store.errors import LogitStoreError, StrayFile, UnreadableFile
from logit_store.figures import figures_of
from logit_store.files import Entry
from logit_store.layout import (
    CATALOGUE_PATTERN,
    CLIPS_PATTERN,
    ENSEMBLES_PATTERN,
    FORMAT_VERSION,
    ClipsHeader,
    Figures,
    Footer,
    LogitKey,
    catalogue_path,
    checked_clips,
    corpus_of,
    key_of,
    logits_pattern,
)
from logit_store.logits_file import Float16s
from logit_store.store import LogitStore

PLACES = {
    "clips": CLIPS_PATTERN,
    "logits": logits_pattern(),
    "ensembles": ENSEMBLES_PATTERN,
    "catalogue": CATALOGUE_PATTERN,
}
"""Folders in which each file has its place, and where that is."""
_DEEPEST = 8
"""Strays are looked for so many folders down; places are at most 6 deep."""
_TOLERANCE = 1e-9
"""Figures are sums in float64, which another version of numpy may take in another order."""

OnFile = Callable[[int, int], None]
"""Told how many files were looked at, and of how many."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written."""

    file: str
    """Full address."""
    problem: str


def verify(store: LogitStore, on_file: OnFile = lambda done, total: None) -> list[Problem]:
    """What is wrong with the clips, logits and ensembles of a store: nothing, one hopes.

    Every file is read whole; hashes and figures are computed again and compared.

    Raises:
        MissingStore: nothing lies at the address.
    """
    # Raises if there is no store.
    store.corpora()
    files, look = store.files, _Look(store)
    checks = [
        (entry, check)
        for pattern, check in (
            (CLIPS_PATTERN, look.at_clips),
            (logits_pattern(), look.at_logits),
            (ENSEMBLES_PATTERN, look.at_ensemble),
        )
        for entry in files.entries(pattern)
    ]
    problems = []
    for done, (entry, check) in enumerate(checks, 1):
        try:
            problems += [Problem(files.where(entry.name), words) for words in check(entry)]
        except FileNotFoundError:
            continue  # Deleted since it was listed.
        except UnreadableFile as error:
            problems.append(Problem(error.path, error.reason))
        except LogitStoreError as error:
            problems.append(Problem(files.where(entry.name), str(error)))
        finally:
            on_file(done, len(checks))
    return [*dict.fromkeys(problems), *_strays(store)]


class _Look:
    """A look at each kind of file; yields in words what is wrong."""

    def __init__(self, store: LogitStore) -> None:
        self._store, self._files = store, store.files
        # Read once a corpus, and not once a file of logits.
        self._clips = functools.cache(self._read_clips)
        self._catalogued = functools.cache(self._read_catalogue)

    def at_clips(self, entry: Entry) -> Iterator[str]:
        corpus = corpus_of(entry.name)
        header, clips = self._clips(corpus)
        try:
            computed = ClipsHeader.of(checked_clips(corpus, clips))
        except ValueError as error:
            yield str(error)
        else:
            yield from _differing_header(header, computed)

    def at_logits(self, entry: Entry) -> Iterator[str]:
        key = key_of(entry.name, self._files.where(entry.name))
        with logits_file.opened(self._files, entry.name) as file:
            yield from self._differing_catalogue(key, entry, file.footer)
            header, clips = self._clips(key.corpus)
            file.check_belongs(header)
            row_N = file.parquet.read(columns=["row"], use_threads=False)["row"].to_numpy()
            wrong = np.flatnonzero(row_N != np.arange(file.n))
            if len(wrong):
                yield f"row {row_N[wrong[0]]} in place {wrong[0]}, expected 0, 1, 2..."
            logits_KN = np.stack(file.columns())
        footer = file.footer
        n_wrong = int(np.count_nonzero(~np.isfinite(logits_KN)))
        if n_wrong:
            yield f"{n_wrong} logits are not finite"
        else:
            yield from _differing_values(logits_KN, footer, clips, key.split)

    def at_ensemble(self, entry: Entry) -> Iterator[str]:
        corpus, split, file = entry.name.split("/")[2:]
        try:
            number = int(split.partition("=")[2])
            self._store.pinned(corpus.partition("=")[2], number, file.removesuffix(".json"))
        except ValueError as error:
            raise StrayFile(self._files.where(entry.name), str(error)) from error
        yield from ()

    def _differing_catalogue(self, key: LogitKey, entry: Entry, footer: Footer) -> Iterator[str]:
        catalogued = self._catalogued(key.corpus).get((entry.name, entry.version))
        if catalogued not in (None, footer):
            path = self._files.where(catalogue_path(key.corpus))
            yield f"the catalogue tells of it what its footer does not: delete {path}"

    def _read_catalogue(self, corpus: str) -> dict[tuple[str, str], Footer]:
        return catalogue.stored(self._files, corpus)

    def _read_clips(self, corpus: str) -> tuple[ClipsHeader, pa.Table]:
        clips = self._store.clips(corpus)
        with clips_file.opened(self._files, corpus, end_only=True) as (_, header):
            return header, clips


def _differing_header(found: ClipsHeader, computed: ClipsHeader) -> Iterator[str]:
    for field in fields(found):
        told, is_so = getattr(found, field.name), getattr(computed, field.name)
        if told != is_so:
            yield f"{field.name} {told} in the footer, {is_so} computed again"


def _differing_values(
    logits_KN: Float16s, footer: Footer, clips: pa.Table, split: int
) -> Iterator[str]:
    """What the footer says of the logits and is not so."""
    computed = logits_file.logits_hash(logits_KN)
    if footer.logits_hash != computed:
        yield f"logits_hash {footer.logits_hash} in the footer, {computed} computed again"
    largest = float(np.abs(logits_KN).max())
    if footer.largest_logit != largest:
        yield f"largest_logit {footer.largest_logit} in the footer, {largest} computed again"
    again = figures_of(logits_KN, clips, footer.classes, split)
    told_of, is_so_of = _by_group(footer.figures), _by_group(again)
    for group in sorted({*told_of, *is_so_of}):
        told, is_so = told_of.get(group), is_so_of.get(group)
        if told is None or is_so is None or not _agree(told, is_so):
            yield f"figures of {'/'.join(group)}: {told} in the footer, {is_so} computed again"


def _by_group(figures: tuple[Figures, ...]) -> dict[tuple[str, str], Figures]:
    return {(each.fold, each.recording_device or "all"): each for each in figures}


def _agree(first: Figures, second: Figures) -> bool:
    return first.n == second.n and all(
        math.isclose(getattr(first, name), getattr(second, name), abs_tol=_TOLERANCE)
        for name in ("log_loss", "accuracy")
    )


def _strays(store: LogitStore) -> Iterator[Problem]:
    for folder, pattern in PLACES.items():
        placed = {each.name for each in store.files.entries(pattern)}
        for depth in range(1, _DEEPEST + 1):
            for entry in store.files.entries("/".join([folder, *["*"] * depth])):
                if entry.name not in placed:
                    yield Problem(
                        store.files.where(entry.name),
                        f"no file of format version {FORMAT_VERSION} lies here: read it with the program that "
                        "wrote it, or move it out of the store",
                    )
