"""Checks files before a query: DuckDB, which reads them by itself, compares no checksums."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from logit_store import logits_file, passed_over
from logit_store.embeddings import Embeddings
from logit_store.files import Entry, Files

_READERS = 16
"""Files read at once."""


def keep_sound(files: Files, entries: Sequence[Entry]) -> list[Entry]:
    """Return those files of logits that are as they were written; warn of the others.

    Of files that are not on this machine, only the footers are read.
    """
    return _keep(entries, lambda entry: _check_logits(files, entry.name))


def keep_sound_embeddings(embeddings: Embeddings, entries: Sequence[Entry]) -> list[Entry]:
    """Return those files of embeddings that are as they were written, as `keep_sound` does."""
    return _keep(entries, embeddings.check_file)


def _keep(entries: Sequence[Entry], check: Callable[[Entry], None]) -> list[Entry]:
    with ThreadPoolExecutor(_READERS) as readers:
        answers = readers.map(lambda entry: _is_sound(entry, check), entries)
        return [entry for entry, sound in zip(entries, answers, strict=True) if sound]


def _is_sound(entry: Entry, check: Callable[[Entry], None]) -> bool:
    return bool(passed_over.keep_usable([entry], check))


def _check_logits(files: Files, name: str) -> None:
    with logits_file.open_logits(files, name, end_only=not files.is_near) as opened:
        if files.is_near:
            opened.check_pages()
