"""Checks files before a query: DuckDB, which reads them by itself, compares no checksums."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from logit_store import logits_file, passed_over
from logit_store.errors import UnreadableFile
from logit_store.files import Entry, Files

_READERS = 16
"""Files read at once."""


def keep_sound(files: Files, entries: Sequence[Entry]) -> list[Entry]:
    """Return those files of logits that are as they were written; warn of the others.

    Of files that are not on this machine, only the footers are read.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        answers = readers.map(lambda entry: _is_sound(files, entry), entries)
        return [entry for entry, sound in zip(entries, answers, strict=True) if sound]


def _is_sound(files: Files, entry: Entry) -> bool:
    try:
        with logits_file.open_logits(files, entry.name, end_only=not files.is_near) as opened:
            if files.is_near:
                opened.check_pages()
    except FileNotFoundError:
        return False
    except UnreadableFile as error:
        passed_over.warn(error)
        return False
    return True
