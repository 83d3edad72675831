"""Listings of a store's logits, from the catalogues."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import pyarrow as pa

from logit_store import catalogue, parquet, passed_over, runs
from logit_store.catalogue import MEMBERS_SCHEMA, CataloguedLogits
from logit_store.files import Entry, Files
from logit_store.footer import ClipsHeader
from logit_store.keys import LogitKey
from logit_store.paths import logits_path, logits_pattern, parse_corpus

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class LogitsListing:
    """The files of logits at one moment."""

    files: Files
    entries: Mapping[str, Sequence[Entry]]
    """By corpus."""
    read_header: Callable[[str], ClipsHeader]
    """From a corpus to the header of its clips."""
    split: int | None
    """The split that was listed; None: all."""

    @classmethod
    def of(
        cls,
        files: Files,
        corpus: str | None,
        read_header: Callable[[str], ClipsHeader],
        split: int | None = None,
    ) -> Self:
        """List the logits of a corpus and a split; None: of all."""
        entries: dict[str, list[Entry]] = {}
        for entry in files.find(logits_pattern(corpus, split)):
            entries.setdefault(parse_corpus(entry.name), []).append(entry)
        return cls(files, entries, read_header, split)

    def look_up(self, is_wanted: Callable[[LogitKey], bool]) -> list[CataloguedLogits]:
        """Look up the logits that are wanted, one item per corpus.

        Files that cannot be used are passed over, with a warning.
        """
        found: list[CataloguedLogits] = []

        def add(corpus: str) -> None:
            found.append(self._look_up(corpus, is_wanted))
            _warn_of_unreadable(found[-1])

        passed_over.keep_usable(self.entries, add)
        return found

    def look_up_all(self, is_wanted: Callable[[LogitKey], bool]) -> list[CataloguedLogits]:
        """Look up the logits that are wanted, one item per corpus.

        Raises:
            UnreadableFile: one of them cannot be used.
        """
        found = [self._look_up(corpus, is_wanted) for corpus in self.entries]
        for error in (error for each in found for error in each.unreadable.values()):
            raise error
        return found

    def _look_up(self, corpus: str, is_wanted: Callable[[LogitKey], bool]) -> CataloguedLogits:
        entries = self.entries[corpus]
        logits = catalogue.look_up(self.files, corpus, entries, self.split).select(is_wanted)
        if not logits.keys:
            return logits
        return logits.keep_belonging(self.read_header(corpus), self.files.locate)

    def list_usable(self, corpus: str) -> dict[tuple[str, ...], list[Entry]]:
        """List the files of a corpus's logits that can be used, by their classes; warn of the others.

        Only in a pool, whose clips have no labels, may members have other classes than others.

        Raises:
            UnreadableFile: the corpus's clips cannot be used.
        """
        if corpus not in self.entries:
            return {}
        logits = self._look_up(corpus, make_filter(None))
        _warn_of_unreadable(logits)
        paths = map(logits_path, logits.keys)
        classes_of = dict(zip(paths, logits.rows["classes"].to_pylist(), strict=True))
        usable: dict[tuple[str, ...], list[Entry]] = {}
        for entry in self.entries[corpus]:
            if entry.name in classes_of:
                classes = tuple(json.loads(classes_of[entry.name]))
                usable.setdefault(classes, []).append(entry)
        return usable

    def tabulate_members(self) -> pa.Table:
        """Return a row for each member, split and view (MEMBERS_SCHEMA)."""
        tables = [logits.to_members() for logits in self.look_up(make_filter(None))]
        members = pa.concat_tables([parquet.make_empty(MEMBERS_SCHEMA), *tables])
        return _sort(members, "member", "corpus", "split", "view")

    def tabulate_runs(self) -> pa.Table:
        """Return a row for each member and split (RUNS_SCHEMA)."""
        tables = [runs.tabulate_runs(each.rows) for each in self.look_up(make_filter(0))]
        table = pa.concat_tables([parquet.make_empty(runs.RUNS_SCHEMA), *tables])
        return _sort(table, "member", "corpus", "split")


def make_filter(view: int | None) -> Callable[[LogitKey], bool]:
    """Return a function that recognises the keys of a view; None: any."""
    return lambda key: view in (None, key.view)


def look_up_keys(
    files: Files,
    keys: Sequence[LogitKey],
    read_header: Callable[[str], ClipsHeader],
    get: Callable[[CataloguedLogits], Mapping[LogitKey, Found]],
) -> dict[LogitKey, Found]:
    """Look up what the catalogues say about some keys, in their order; absent keys are left out.

    Raises:
        UnreadableFile: one of them cannot be used.
    """
    wanted, found = set(keys), dict[LogitKey, Found]()
    for corpus, split in {(key.corpus, key.split) for key in keys}:
        listing = LogitsListing.of(files, corpus, read_header, split)
        for logits in listing.look_up_all(wanted.__contains__):
            found |= get(logits)
    return {key: found[key] for key in keys if key in found}


def _warn_of_unreadable(logits: CataloguedLogits) -> None:
    for error in logits.unreadable.values():
        passed_over.warn(error)


def _sort(table: pa.Table, *columns: str) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in columns])
