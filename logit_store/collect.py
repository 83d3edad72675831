"""What may be removed from a store because nobody needs it any more."""

from collections.abc import Iterator
from dataclasses import dataclass

from logit_store import catalogue
from logit_store.store import LogitStore

_DEEPEST_NOTE = 6
"""Folders below `train/` in which Ray Train leaves notes."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file that may be removed."""

    file: str
    """From the store's root."""
    why: str
    bytes: int


def garbage(store: LogitStore) -> list[Garbage]:
    """Temporary files of killed writers, leftovers of members that are done, useless catalogues.

    Logits, weights and records are never among them.

    Raises:
        MissingStore: nothing lies at the address.
    """
    done = {key.member for key in store.keys()}
    return [*_temporary(store), *_leftovers(store, done), *_catalogues(store)]


def remove(store: LogitStore, found: list[Garbage]) -> None:
    """Remove what `garbage` found."""
    store.files.sweep()
    for each in found:
        store.files.delete(each.file)


def _temporary(store: LogitStore) -> Iterator[Garbage]:
    for name in store.files.sweep(dry_run=True):
        yield Garbage(name, "its writer was killed", store.files.local(name).stat().st_size)


def _leftovers(store: LogitStore, done: set[str]) -> Iterator[Garbage]:
    below = ["checkpoint.pt", *("/".join(["train", *["*"] * n]) for n in range(1, _DEEPEST_NOTE))]
    for kind in ("teachers", "students"):
        for pattern in below:
            for entry in store.files.entries(f"{kind}/v1/*/{pattern}"):
                if entry.name.split("/")[2] in done:
                    yield Garbage(entry.name, "its member's logits are stored", entry.size)


def _catalogues(store: LogitStore) -> Iterator[Garbage]:
    for entry in catalogue.damaged(store.files):
        yield Garbage(entry.name, "a damaged catalogue", entry.size)
