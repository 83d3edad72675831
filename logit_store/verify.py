"""Verification of a store: reads all of it and reports what has changed (N clips, K classes)."""

import functools
import glob
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from logit_store import catalogue, logits_file
from logit_store.clips_table import check_clips
from logit_store.errors import LogitStoreError, UnreadableFile
from logit_store.files import Entry, check_exists
from logit_store.fold_scores import prepare_scoring
from logit_store.footer import FORMAT_VERSION, ClipsHeader, FoldScores, Footer
from logit_store.keys import LogitKey
from logit_store.logits_file import Float16s
from logit_store.paths import (
    CATALOGUE_PATTERN,
    CLIPS_PATTERN,
    ENSEMBLES_PATTERN,
    catalogue_path,
    embeddings_pattern,
    logits_pattern,
    matches,
    parse_clips,
    parse_embedding_key,
    parse_ensemble,
    parse_key,
    parse_shard,
    shards_pattern,
)
from logit_store.store import LogitStore
from logit_store.verify_objects import OBJECT_PATTERNS, check_embeddings, check_object

PLACES = {
    "clips": CLIPS_PATTERN,
    "logits": logits_pattern(),
    "embeddings": embeddings_pattern(),
    "embedding_shards": shards_pattern(),
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
Check = Callable[[Entry], Iterable[str]]
"""Finds the problems of a file, as text."""


@dataclass(frozen=True, slots=True)
class StoreProblem:
    """A file that is not as it was written."""

    file: str
    """Full address."""
    problem: str


def verify(store: LogitStore, on_file: OnFile = lambda done, total: None) -> list[StoreProblem]:
    """Return the problems of all files of a store.

    Every file is read whole; hashes and scores are computed again and compared. A file that a job
    replaces meanwhile is checked again.

    Raises:
        MissingStore: there is nothing at the address.
    """
    check_exists(store.files, store.address)
    checker = _Checker(store)
    checks = checker.list_checks()
    problems: list[StoreProblem] = []
    for done, (entry, check) in enumerate(checks, 1):
        problems += checker.find_problems(entry, check)
        on_file(done, len(checks))
    return [*dict.fromkeys(problems), *_find_strays(store)]


class _Checker:
    """A check for each kind of file, which yields the problems as text."""

    def __init__(self, store: LogitStore) -> None:
        self._store, self._files = store, store.files
        self._forget()

    def list_checks(self) -> list[tuple[Entry, Check]]:
        """List all files, each with its check. A listing repairs catalogues, so they come first."""
        checks: list[tuple[str, Check]] = [
            (CATALOGUE_PATTERN, self.check_catalogue),
            (CLIPS_PATTERN, self.check_clips),
            (logits_pattern(), self.check_logits),
            (embeddings_pattern(), self.check_embeddings),
            (shards_pattern(), self.check_shard),
            (ENSEMBLES_PATTERN, self.check_ensemble),
            *((pattern, self.check_object) for pattern in OBJECT_PATTERNS),
        ]
        return [(e, check) for pattern, check in checks for e in self._files.find(pattern)]

    def find_problems(self, entry: Entry, check: Check) -> list[StoreProblem]:
        """Check a file; a problem counts if it is there twice, and the file is the same."""
        before: tuple[Entry, list[StoreProblem]] | None = None
        while True:
            problems = self._check_once(entry, check)
            if not problems or before == (entry, problems):
                return problems
            before = entry, problems
            self._forget()
            listed = self._files.find(glob.escape(entry.name))
            if not listed:
                return []
            (entry,) = listed

    def _check_once(self, entry: Entry, check: Check) -> list[StoreProblem]:
        address = self._files.locate(entry.name)
        try:
            return [StoreProblem(address, words) for words in check(entry)]
        except FileNotFoundError:
            return []  # Deleted since it was listed.
        except UnreadableFile as error:
            return [StoreProblem(error.path, error.reason)]
        except (LogitStoreError, OSError) as error:
            return [StoreProblem(address, str(error))]

    def _forget(self) -> None:
        # Read once per corpus, not once per file of logits.
        self._clips = functools.cache(self._read_clips)
        self._catalogued = functools.cache(
            functools.partial(catalogue.open_catalogued_footers, self._files)
        )

    def check_object(self, entry: Entry) -> Iterator[str]:
        return check_object(self._files, entry)

    def check_catalogue(self, entry: Entry) -> Iterator[str]:
        if not catalogue.is_sound(self._files, entry):
            yield "a damaged catalogue: delete it, and the next listing makes it again"

    def check_clips(self, entry: Entry) -> Iterator[str]:
        corpus = parse_clips(entry.name, self._files.locate(entry.name))
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
            logits_KN = np.stack([*file.read_columns()])
        footer = file.footer
        n_wrong = int(np.count_nonzero(~np.isfinite(logits_KN)))
        if n_wrong:
            yield f"{n_wrong} logits are not finite"
        else:
            yield from _compare_values(logits_KN, footer, clips, key.split)

    def check_embeddings(self, entry: Entry) -> Iterator[str]:
        key = parse_embedding_key(entry.name, self._files.locate(entry.name))
        header, _ = self._clips(key.corpus)
        return check_embeddings(self._files, entry, header, range(header.n))

    def check_shard(self, entry: Entry) -> Iterator[str]:
        key, rows = parse_shard(entry.name, self._files.locate(entry.name))
        header, _ = self._clips(key.corpus)
        return check_embeddings(self._files, entry, header, rows)

    def check_ensemble(self, entry: Entry) -> Iterator[str]:
        place = parse_ensemble(entry.name, self._files.locate(entry.name))
        self._store.ensembles.read_weights(place.corpus, place.split, place.reference)
        yield from ()

    def _compare_catalogue(self, key: LogitKey, entry: Entry, footer: Footer) -> Iterator[str]:
        catalogued = self._catalogued(key.corpus)(entry.name, entry.version)
        if catalogued not in (None, footer):
            path = self._files.locate(catalogue_path(key.corpus))
            yield f"the catalogue differs from its footer: delete {path}"

    def _read_clips(self, corpus: str) -> tuple[ClipsHeader, pa.Table]:
        return self._store.read_clips_and_header(corpus)


def _compare_header(found: ClipsHeader, computed: ClipsHeader) -> Iterator[str]:
    for field in fields(found):
        stored, expected = getattr(found, field.name), getattr(computed, field.name)
        if stored != expected:
            yield f"{field.name} {stored} in the footer, {expected} computed again"


def _compare_values(
    logits_KN: Float16s, footer: Footer, clips: pa.Table, split: int
) -> Iterator[str]:
    """Compare the footer with the logits."""
    computed = logits_file.hash_logits(logits_KN.T)
    if footer.logits_hash != computed:
        yield f"logits_hash {footer.logits_hash} in the footer, {computed} computed again"
    largest = float(np.abs(logits_KN).max())
    if footer.largest_logit != largest:
        yield f"largest_logit {footer.largest_logit} in the footer, {largest} computed again"
    stored_of = _group_scores(footer.scores)
    computed_of = _group_scores(prepare_scoring(clips, footer.classes, split)(logits_KN))
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
        for depth in range(1, _DEEPEST + 1):
            for entry in store.files.find("/".join([folder, *["*"] * depth])):
                if not matches(entry.name, pattern):
                    yield StoreProblem(
                        store.files.locate(entry.name),
                        f"format version {FORMAT_VERSION} has no file at this path: read it with the program "
                        "that wrote it, or move it out of the store",
                    )
