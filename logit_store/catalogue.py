"""The catalogue: what the footers of a corpus's logits say, kept in one file for fast listings.

It is a cache. Each of its rows counts only while the listing shows that file with that size and
that version; what is missing or old is read from the footers, and the catalogue is stored again.
Several who do so at once do no harm: the last one wins.
"""

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from logit_store import logits_file, parquet
from logit_store.errors import DamagedFile, LogitStoreError, UnreadableFile
from logit_store.files import Entry, Files
from logit_store.layout import (
    CATALOGUE_PATTERN,
    FIGURE_FOLDS,
    FORMAT_VERSION,
    ClipsHeader,
    Figures,
    Footer,
    LogitKey,
    catalogue_path,
    checked_metadata,
    corpus_of,
    key_of,
)

logger = logging.getLogger(__name__)

MEMBERS_SCHEMA = pa.schema(
    {
        "member": pa.string(),
        "corpus": pa.string(),
        "split": pa.int32(),
        "view": pa.int32(),
        "kind": pa.string(),
        "recipe": pa.string(),
        "family": pa.string(),
        "protocol": pa.string(),
        "seed": pa.int64(),
        "log_loss_fit": pa.float64(),
        "log_loss_select": pa.float64(),
        "accuracy_fit": pa.float64(),
        "accuracy_select": pa.float64(),
        "bytes": pa.int64(),
        "written": pa.timestamp("us", tz="UTC"),
    }
)
"""What a listing of members shows."""

_FOOTER_SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "version": pa.string(),
        "n": pa.int64(),
        "row_order_hash": pa.string(),
        "classes": pa.string(),
        "largest_logit": pa.float64(),
        "logits_hash": pa.string(),
        "figures": pa.string(),
        "record": pa.string(),
    }
)
_SCHEMA = pa.schema([*MEMBERS_SCHEMA, *_FOOTER_SCHEMA])

_READERS = 16
"""Footers read at once: from S3 each is a wait of some 20 ms, on a disk it does no harm."""


@dataclass(frozen=True, slots=True)
class Filed:
    """What the catalogue says of some files of logits."""

    keys: tuple[LogitKey, ...]
    """Of the readable files."""
    rows: pa.Table
    """One for each key."""
    unreadable: dict[LogitKey, UnreadableFile]
    """Files that nothing can be said of, and why."""

    def only(self, wanted: Callable[[LogitKey], bool]) -> "Filed":
        """What it says of some of the files."""
        places = [place for place, key in enumerate(self.keys) if wanted(key)]
        return Filed(
            tuple(self.keys[place] for place in places),
            self.rows.take(pa.array(places, pa.int64())),
            {key: error for key, error in self.unreadable.items() if wanted(key)},
        )

    def members(self) -> pa.Table:
        """A row for each key (MEMBERS_SCHEMA)."""
        return self.rows.select(MEMBERS_SCHEMA.names)

    def footers(self) -> dict[LogitKey, Footer]:
        """What each file says of itself."""
        return dict(zip(self.keys, map(_footer, self.rows.to_pylist()), strict=True))

    def check_belongs(self, header: ClipsHeader, where: Callable[[str], str]) -> None:
        """Make sure that all files are readable, and of these clips and classes.

        Raises:
            UnreadableFile: the first that is not.
        """
        for error in self.unreadable.values():
            raise error
        expected = {
            "row_order_hash": header.row_order_hash,
            "classes": json.dumps(header.classes),
            "n": header.n,
        }
        fits = [pc.equal(self.rows[name], value) for name, value in expected.items()]
        # Thousands of footers are not taken apart to find that all is well.
        wrong = pc.invert(functools.reduce(pc.and_, fits))
        for row in self.rows.filter(wrong).to_pylist():
            logits_file.check_belongs(where(row["name"]), _footer(row), row["n"], header)


def filed(files: Files, corpus: str, entries: Sequence[Entry]) -> Filed:
    """What the catalogue says of these files, brought up to date.

    Args:
        files: of the store.
        corpus: whose.
        entries: all files of the corpus's logits, as they were just listed.

    Raises:
        StrayFile: no key leads to one of them.
    """
    keys = {each.name: key_of(each.name, files.where(each.name)) for each in entries}
    known = _load(files, corpus)
    place_of = {
        identity: place
        for place, identity in enumerate(
            zip(
                *(known[column].to_pylist() for column in ("name", "bytes", "version")), strict=True
            )
        )
    }
    places = [place_of.get((each.name, each.size, each.version)) for each in entries]
    kept = [place for place in places if place is not None]
    wanting = [each for each, place in zip(entries, places, strict=True) if place is None]
    found, unreadable = _read(files, wanting, keys)
    rows = known.take(pa.array(kept, pa.int64()))
    if found:
        rows = pa.concat_tables([rows, pa.Table.from_pylist(found, _SCHEMA)])
    if found or len(kept) < known.num_rows:
        _save(files, corpus, rows)
    return Filed(tuple(keys[name] for name in rows["name"].to_pylist()), rows, unreadable)


def stored(files: Files, corpus: str) -> dict[tuple[str, str], Footer]:
    """What the catalogue says as it lies there, by the name and the version of each file."""
    rows = _load(files, corpus).to_pylist()
    return {(row["name"], row["version"]): _footer(row) for row in rows}


def damaged(files: Files) -> list[Entry]:
    """The catalogues that are of no use."""
    return [each for each in files.entries(CATALOGUE_PATTERN) if not _is_sound(files, each)]


def _is_sound(files: Files, entry: Entry) -> bool:
    try:
        _open(files, corpus_of(entry.name))
    except FileNotFoundError:
        return True
    except UnreadableFile:
        return False
    return True


def _load(files: Files, corpus: str) -> pa.Table:
    try:
        return _open(files, corpus)
    except (FileNotFoundError, UnreadableFile):
        return _SCHEMA.empty_table()


def _open(files: Files, corpus: str) -> pa.Table:
    name = catalogue_path(corpus)
    with parquet.opened(files, name) as (_, file):
        checked_metadata(file.metadata.metadata, files.where(name))
        if not file.schema_arrow.equals(_SCHEMA):
            raise DamagedFile(files.where(name), f"columns {file.schema_arrow.names}")
        return file.read(use_threads=False)


def _save(files: Files, corpus: str, rows: pa.Table) -> None:
    data = parquet.small(rows, {"tutti.format_version": FORMAT_VERSION})
    # A store that takes no writes can be listed all the same.
    with contextlib.suppress(OSError, LogitStoreError):
        files.put(catalogue_path(corpus), data)
        logger.info("catalogued corpus=%s files=%d", corpus, rows.num_rows)


def _read(
    files: Files, entries: Sequence[Entry], keys: dict[str, LogitKey]
) -> tuple[list[dict[str, Any]], dict[LogitKey, UnreadableFile]]:
    """Rows of readable files, and why the others are not; files that are gone are in neither."""

    def read(entry: Entry) -> dict[str, Any] | UnreadableFile | None:
        try:
            with logits_file.opened(files, entry.name, end_only=True) as opened:
                return _row(keys[entry.name], entry, opened.footer, opened.n)
        except FileNotFoundError:
            return None
        except UnreadableFile as error:
            return error

    found: list[dict[str, Any]] = []
    unreadable: dict[LogitKey, UnreadableFile] = {}
    with ThreadPoolExecutor(_READERS) as readers:
        for entry, answer in zip(entries, readers.map(read, entries), strict=True):
            if isinstance(answer, UnreadableFile):
                unreadable[keys[entry.name]] = answer
            elif answer is not None:
                found.append(answer)
    return found, unreadable


def _row(key: LogitKey, entry: Entry, footer: Footer, n: int) -> dict[str, Any]:
    record = footer.record
    recipe = record.get("recipe")
    texts = {
        "kind": record.get("kind"),
        "recipe": recipe.get("name") if isinstance(recipe, dict) else recipe,
        "family": record.get("family"),
        "protocol": record.get("protocol"),
    }
    seed = record.get("seed")
    row = {
        **asdict(key),
        **{name: text if isinstance(text, str) else None for name, text in texts.items()},
        "seed": seed if type(seed) is int else None,
        "bytes": entry.size,
        "written": entry.written,
        "name": entry.name,
        "version": entry.version,
        "n": n,
        "row_order_hash": footer.row_order_hash,
        "classes": json.dumps(footer.classes),
        "largest_logit": footer.largest_logit,
        "logits_hash": footer.logits_hash,
        "figures": json.dumps([asdict(figures) for figures in footer.figures]),
        "record": json.dumps(record),
    }
    for fold in FIGURE_FOLDS:
        figures = footer.figure(fold)
        if figures is not None:
            row |= {f"log_loss_{fold}": figures.log_loss, f"accuracy_{fold}": figures.accuracy}
    return row


def _footer(row: dict[str, Any]) -> Footer:
    return Footer(
        row_order_hash=row["row_order_hash"],
        classes=tuple(json.loads(row["classes"])),
        largest_logit=row["largest_logit"],
        logits_hash=row["logits_hash"],
        figures=tuple(Figures(**each) for each in json.loads(row["figures"])),
        record=json.loads(row["record"]),
    )
