"""Verification of a store: reads all of it and reports what has changed (N clips, K classes)."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from logit_store import catalogue, clips_file, logits_file
from logit_store.clips_table import check_clips
from logit_store.errors import LogitStoreError, StrayFile, UnreadableFile
from logit_store.files import Entry
from logit_store.fold_scores import score_folds
from logit_store.footer import FORMAT_VERSION, ClipsHeader, FoldScores, Footer
from logit_store.keys import LogitKey
from logit_store.logits_file import Float16s
from logit_store.paths import (
    CATALOGUE_PATTERN,
    CLIPS_PATTERN,
    ENSEMBLES_PATTERN,
    catalogue_path,
    logits_pattern,
    parse_corpus,
    parse_key,
)
from logit_store.store import LogitStore

PLACES = {
    "clips": CLIPS_PATTERN,
    "logits": logits_pattern(),
    "ensembles": ENSEMBLES_PATTERN,
    "catalogue": CATALOGUE_PATTERN,
}
"""Top folders, and a pattern for the paths of their files."""
_DEEPEST = 8
"""How many levels are searched for stray files; paths of the store have at most 6."""
_TOLERANCE = 1e-9
"""Scores are sums in float64, which another version of numpy may add in another order."""

OnFile = Callable[[int, int], None]
"""Called with the number of files checked and of all files."""


@dataclass(frozen=True, slots=True)
class StoreProblem:
    """A file that is not as it was written."""

    file: str
    """Full address."""
    problem: str


def verify(store: LogitStore, on_file: OnFile = lambda done, total: None) -> list[StoreProblem]:
    """Return the problems of the clips, logits and ensembles of a store.

    Every file is read whole; hashes and scores are computed again and compared.

    Raises:
        MissingStore: there is nothing at the address.
    """
    # Raises if there is no store.
    store.corpora()
    files, checker = store.files, _Checker(store)
    checks = [
        (entry, check)
        for pattern, check in (
            (CLIPS_PATTERN, checker.check_clips),
            (logits_pattern(), checker.check_logits),
            (ENSEMBLES_PATTERN, checker.check_ensemble),
        )
        for entry in files.find(pattern)
    ]
    problems = []
    for done, (entry, check) in enumerate(checks, 1):
        try:
            problems += [StoreProblem(files.locate(entry.name), words) for words in check(entry)]
        except FileNotFoundError:
            continue  # Deleted since it was listed.
        except UnreadableFile as error:
            problems.append(StoreProblem(error.path, error.reason))
        except LogitStoreError as error:
            problems.append(StoreProblem(files.locate(entry.name), str(error)))
        finally:
            on_file(done, len(checks))
    return [*dict.fromkeys(problems), *_find_strays(store)]


class _Checker:
    """A check for each kind of file, which yields the problems as text."""

    def __init__(self, store: LogitStore) -> None:
        self._store, self._files = store, store.files
        # Read once per corpus, not once per file of logits.
        self._clips = functools.cache(self._read_clips)
        self._catalogued = functools.cache(self._read_catalogue)

    def check_clips(self, entry: Entry) -> Iterator[str]:
        corpus = parse_corpus(entry.name)
        header, clips = self._clips(corpus)
        try:
            computed = ClipsHeader.of(check_clips(corpus, clips))
        except ValueError as error:
            yield str(error)
        else:
            yield from _compare_header(header, computed)

    def check_logits(self, entry: Entry) -> Iterator[str]:
        key = parse_key(entry.name, self._files.locate(entry.name))
        with logits_file.open_logits(self._files, entry.name) as file:
            yield from self._compare_catalogue(key, entry, file.footer)
            header, clips = self._clips(key.corpus)
            file.check_belongs(header)
            row_N = file.parquet.read(columns=["row"], use_threads=False)["row"].to_numpy()
            wrong = np.flatnonzero(row_N != np.arange(file.n))
            if len(wrong):
                yield f"row {row_N[wrong[0]]} in place {wrong[0]}, expected 0, 1, 2..."
            logits_KN = np.stack(file.read_columns())
        footer = file.footer
        n_wrong = int(np.count_nonzero(~np.isfinite(logits_KN)))
        if n_wrong:
            yield f"{n_wrong} logits are not finite"
        else:
            yield from _compare_values(logits_KN, footer, clips, key.split)

    def check_ensemble(self, entry: Entry) -> Iterator[str]:
        corpus, split, file = entry.name.split("/")[2:]
        try:
            number = int(split.partition("=")[2])
            self._store.ensembles.read_weights(
                corpus.partition("=")[2], number, file.removesuffix(".json")
            )
        except ValueError as error:
            raise StrayFile(self._files.locate(entry.name), str(error)) from error
        yield from ()

    def _compare_catalogue(self, key: LogitKey, entry: Entry, footer: Footer) -> Iterator[str]:
        catalogued = self._catalogued(key.corpus).get((entry.name, entry.version))
        if catalogued not in (None, footer):
            path = self._files.locate(catalogue_path(key.corpus))
            yield f"the catalogue differs from its footer: delete {path}"

    def _read_catalogue(self, corpus: str) -> dict[tuple[str, str], Footer]:
        return catalogue.read_catalogued_footers(self._files, corpus)

    def _read_clips(self, corpus: str) -> tuple[ClipsHeader, pa.Table]:
        clips = self._store.read_clips(corpus)
        with clips_file.open_clips(self._files, corpus, end_only=True) as (_, header):
            return header, clips


def _compare_header(found: ClipsHeader, computed: ClipsHeader) -> Iterator[str]:
    for field in fields(found):
        stored, expected = getattr(found, field.name), getattr(computed, field.name)
        if stored != expected:
            yield f"{field.name} {stored} in the footer, {expected} computed again"


def _compare_values(
    logits_KN: Float16s, footer: Footer, clips: pa.Table, split: int
) -> Iterator[str]:
    """Compare the footer with the logits."""
    computed = logits_file.hash_logits(logits_KN)
    if footer.logits_hash != computed:
        yield f"logits_hash {footer.logits_hash} in the footer, {computed} computed again"
    largest = float(np.abs(logits_KN).max())
    if footer.largest_logit != largest:
        yield f"largest_logit {footer.largest_logit} in the footer, {largest} computed again"
    stored_of = _group_scores(footer.scores)
    computed_of = _group_scores(score_folds(logits_KN, clips, footer.classes, split))
    for group in sorted({*stored_of, *computed_of}):
        stored, again = stored_of.get(group), computed_of.get(group)
        if stored is None or again is None or not _agree(stored, again):
            yield f"scores of {'/'.join(group)}: {stored} in the footer, {again} computed again"


def _group_scores(scores: tuple[FoldScores, ...]) -> dict[tuple[str, str], FoldScores]:
    return {(each.fold, each.recording_device or "all"): each for each in scores}


def _agree(first: FoldScores, second: FoldScores) -> bool:
    return first.n == second.n and all(
        math.isclose(getattr(first, name), getattr(second, name), abs_tol=_TOLERANCE)
        for name in ("log_loss", "accuracy")
    )


def _find_strays(store: LogitStore) -> Iterator[StoreProblem]:
    for folder, pattern in PLACES.items():
        placed = {each.name for each in store.files.find(pattern)}
        for depth in range(1, _DEEPEST + 1):
            for entry in store.files.find("/".join([folder, *["*"] * depth])):
                if entry.name not in placed:
                    yield StoreProblem(
                        store.files.locate(entry.name),
                        f"format version {FORMAT_VERSION} has no file at this path: read it with the program "
                        "that wrote it, or move it out of the store",
                    )
