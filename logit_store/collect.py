"""Garbage collection: which files of a store are no longer needed."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from logit_store import catalogue
from logit_store.errors import StrayFile
from logit_store.paths import parse_shard, shards_pattern
from logit_store.store import LogitStore

_DEEPEST_NOTE = 6
"""Levels of folders below `train/` in which Ray Train leaves files."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file that may be removed."""

    file: str
    """Path from the store's root."""
    why: str
    bytes: int


def find_garbage(store: LogitStore) -> list[Garbage]:
    """Find temporary files of killed writers, leftovers of finished members, joined shards, damaged catalogues.

    Logits, embeddings, weights and records are never among them.

    Raises:
        MissingStore: there is nothing at the address.
    """
    finished = {key.member for key in store.keys()}
    return [
        *_find_temporary(store),
        *_find_leftovers(store, finished),
        *_find_shards(store),
        *_find_catalogues(store),
    ]


def remove_garbage(store: LogitStore, garbage: list[Garbage]) -> None:
    """Remove what `find_garbage` found."""
    store.files.sweep()
    for each in garbage:
        store.files.delete(each.file)


def _find_temporary(store: LogitStore) -> Iterator[Garbage]:
    for name in store.files.sweep(dry_run=True):
        # Another process may sweep at the same time.
        with contextlib.suppress(FileNotFoundError):
            yield Garbage(name, "its writer was killed", store.files.fetch(name).stat().st_size)


def _find_leftovers(store: LogitStore, finished: set[str]) -> Iterator[Garbage]:
    below = ["checkpoint.pt", "part_*/checkpoint.pt"]
    below += ["/".join(["train", *["*"] * n]) for n in range(1, _DEEPEST_NOTE)]
    for kind in ("teachers", "students"):
        for pattern in below:
            for entry in store.files.find(f"{kind}/v1/*/{pattern}"):
                if entry.name.split("/")[2] in finished:
                    yield Garbage(entry.name, "its member's logits are stored", entry.size)


def _find_shards(store: LogitStore) -> Iterator[Garbage]:
    whole = set(store.embeddings.keys(view=None))
    for entry in store.files.find(shards_pattern()):
        # One out of place is for `verify`.
        with contextlib.suppress(StrayFile):
            key, _ = parse_shard(entry.name, store.files.locate(entry.name))
            if key in whole:
                yield Garbage(entry.name, "all embeddings of its backbone are stored", entry.size)


def _find_catalogues(store: LogitStore) -> Iterator[Garbage]:
    for entry in catalogue.find_damaged(store.files):
        yield Garbage(entry.name, "a damaged catalogue", entry.size)
