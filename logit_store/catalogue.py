"""The catalogue: the footers of a corpus's logits in one file, for fast listings.

It is a cache. A row is valid as long as the listing shows that file with that size and version.
Missing and outdated rows are read from the footers, and the catalogue is stored again. Several
processes may do so at once: the last one wins. A digest of all its bytes is compared before they are
decoded; a damaged catalogue is made again, with a warning.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from logit_store import logits_file, parquet
from logit_store.errors import DamagedFile, LogitStoreError, UnreadableFile
from logit_store.files import Entry, Files
from logit_store.footer import (
    FORMAT_VERSION,
    SCORED_FOLDS,
    ClipsHeader,
    FoldScores,
    Footer,
    decode_metadata,
)
from logit_store.json_objects import fits_column
from logit_store.keys import LogitKey
from logit_store.logits_file import LogitsFile
from logit_store.passed_over import keep_usable
from logit_store.paths import CATALOGUE_PATTERN, catalogue_path, parse_corpus, parse_key
from logit_store.seal import check_seal

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
"""The columns of a listing of members."""

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
"""Footers read at once: S3 takes about 20 ms for each."""


@dataclass(frozen=True, slots=True)
class CataloguedLogits:
    """What the catalogue says about some files of logits."""

    keys: tuple[LogitKey, ...]
    """The keys of the readable files."""
    rows: pa.Table
    """One row for each key."""
    unreadable: dict[LogitKey, UnreadableFile]
    """The other files, and why they cannot be used."""

    def select(self, wanted: Callable[[LogitKey], bool]) -> "CataloguedLogits":
        """Return the rows of the files that are wanted."""
        places = [place for place, key in enumerate(self.keys) if wanted(key)]
        return CataloguedLogits(
            tuple(self.keys[place] for place in places),
            parquet.take_rows(self.rows, places),
            {key: error for key, error in self.unreadable.items() if wanted(key)},
        )

    def to_members(self) -> pa.Table:
        """Return a row for each key (MEMBERS_SCHEMA)."""
        return self.rows.select(MEMBERS_SCHEMA.names)

    def to_hashes(self) -> dict[LogitKey, str]:
        """Return the hash of the logits of each file, without decoding its record."""
        return dict(zip(self.keys, self.rows["logits_hash"].to_pylist(), strict=True))

    def to_footers(self) -> dict[LogitKey, Footer]:
        """Return the footer of each file."""
        return dict(zip(self.keys, map(_decode_footer, self.rows.to_pylist()), strict=True))

    def keep_belonging(
        self, header: ClipsHeader, where: Callable[[str], str]
    ) -> "CataloguedLogits":
        """Count the files that do not belong to these clips and classes as unreadable."""
        expected = {"row_order_hash": header.row_order_hash, "n": header.n}
        if header.classes:
            expected["classes"] = json.dumps(header.classes)
        # Comparing columns first saves decoding thousands of footers when all is well.
        if all(
            self.rows[name].unique().to_pylist() in ([], [value])
            for name, value in expected.items()
        ):
            return self
        strange: dict[LogitKey, UnreadableFile] = {}
        for key, row in zip(self.keys, self.rows.to_pylist(), strict=True):
            try:
                footer, path = _decode_footer(row), where(row["name"])
                logits_file.check_belongs(path, footer, row["n"], header)
            except UnreadableFile as error:
                strange[key] = error
        kept = self.select(lambda key: key not in strange)
        return replace(kept, unreadable=self.unreadable | strange)


def look_up(
    files: Files, corpus: str, entries: Sequence[Entry], split: int | None = None
) -> CataloguedLogits:
    """Look up files of logits in the catalogue, and bring it up to date.

    Args:
        files: of the store.
        corpus: whose logits.
        entries: all files of the corpus's logits, or of one split's, as just listed; those out of place
            are passed over.
        split: the split that was listed; None: all.
    """
    keys: dict[str, LogitKey] = {}

    def note_key(entry: Entry) -> None:
        keys[entry.name] = parse_key(entry.name, files.locate(entry.name))

    entries = keep_usable(entries, note_key)
    if not entries:
        return CataloguedLogits((), parquet.make_empty(_SCHEMA), {})
    stored = _read_stored(files, corpus)
    is_listed = pc.equal(stored["split"], stored["split"] if split is None else split)
    known, others = stored.filter(is_listed), stored.filter(pc.invert(is_listed))
    identities = zip(*(known[c].to_pylist() for c in ("name", "bytes", "version")), strict=True)
    place_of = {identity: place for place, identity in enumerate(identities)}
    places = [place_of.get((each.name, each.size, each.version)) for each in entries]
    kept = [place for place in places if place is not None]
    missing = [each for each, place in zip(entries, places, strict=True) if place is None]
    found, unreadable = _read_footers(files, missing, keys)
    rows = parquet.take_rows(known, kept)
    if found:
        rows = pa.concat_tables([rows, pa.Table.from_pylist(found, _SCHEMA)])
    if found or len(kept) < known.num_rows:
        _store(files, corpus, pa.concat_tables([others, rows]))
    return CataloguedLogits(
        tuple(keys[name] for name in rows["name"].to_pylist()), rows, unreadable
    )


def open_catalogued_footers(files: Files, corpus: str) -> Callable[[str, str], Footer | None]:
    """Return a function that finds the footer in the stored catalogue, by a file's name and version.

    Footers are decoded one at a time, because those of ten thousand files fill half a gigabyte.
    """
    rows = _read_stored(files, corpus)
    identities = zip(rows["name"].to_pylist(), rows["version"].to_pylist(), strict=True)
    place_of = {identity: place for place, identity in enumerate(identities)}

    def find(name: str, version: str) -> Footer | None:
        place = place_of.get((name, version))
        return None if place is None else _decode_footer(rows.slice(place, 1).to_pylist()[0])

    return find


def find_damaged(files: Files) -> list[Entry]:
    """Find catalogues that cannot be read."""
    return [each for each in files.find(CATALOGUE_PATTERN) if not is_sound(files, each)]


def is_sound(files: Files, entry: Entry) -> bool:
    """Tell whether a catalogue can be read, or was deleted since it was listed."""
    try:
        _open(files, parse_corpus(entry.name))
    except FileNotFoundError:
        return True
    except (UnreadableFile, ValueError):  # also a corpus that is no name
        return False
    return True


def _read_stored(files: Files, corpus: str) -> pa.Table:
    try:
        rows = _open(files, corpus)
    except FileNotFoundError:
        rows = None
    except UnreadableFile:
        path = files.locate(catalogue_path(corpus))
        logger.warning("%s: damaged or of another version, so it is made again", path)
        rows = None
    return parquet.make_empty(_SCHEMA) if rows is None else rows


def _open(files: Files, corpus: str) -> pa.Table | None:
    """Read a catalogue; None if it is of an earlier version without a digest.

    Raises:
        FileNotFoundError: there is none.
        UnreadableFile: it has another version, or is damaged.
    """
    name = catalogue_path(corpus)
    path = files.locate(name)
    with files.open(name) as source:
        data = source.read()
    if not check_seal(data, path):
        _check_version(data, path)
        return None
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        decode_metadata(file.metadata.metadata, path)
        if not file.schema_arrow.equals(_SCHEMA):
            raise DamagedFile(path, f"columns {file.schema_arrow.names}")
        return file.read(use_threads=False)


def _check_version(data: bytes, path: str) -> None:
    """Make sure that a catalogue without a digest is a Parquet file of this format version."""
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            decode_metadata(file.metadata.metadata, path)
            columns = file.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(path, " ".join(str(error).split())) from error
    if not columns.equals(_SCHEMA):
        raise DamagedFile(path, f"columns {columns.names}")


def encode_catalogue(rows: pa.Table) -> pa.Buffer:
    """Return the bytes of a catalogue, with a digest of all of them."""
    return parquet.encode_small(rows, {"tutti.format_version": FORMAT_VERSION}, seal_all=True)


def _store(files: Files, corpus: str, rows: pa.Table) -> None:
    data = encode_catalogue(rows)
    # A store without write access can still be listed.
    with contextlib.suppress(OSError, LogitStoreError):
        files.put(catalogue_path(corpus), data)
        logger.info("catalogued corpus=%s files=%d", corpus, rows.num_rows)


def _read_footers(
    files: Files, entries: Sequence[Entry], keys: dict[str, LogitKey]
) -> tuple[list[dict[str, Any]], dict[LogitKey, UnreadableFile]]:
    """Read footers: rows of readable files, and the errors of others. Deleted files are in neither."""

    def read(entry: Entry) -> dict[str, Any] | UnreadableFile | None:
        try:
            with logits_file.open_logits(files, entry.name, end_only=True) as opened:
                return _make_row(keys[entry.name], entry, opened)
        except FileNotFoundError:
            return None
        except UnreadableFile as error:
            return error
        except RecursionError as error:
            return DamagedFile(files.locate(entry.name), str(error))

    found: list[dict[str, Any]] = []
    unreadable: dict[LogitKey, UnreadableFile] = {}
    with ThreadPoolExecutor(_READERS) as readers:
        # What a thread waits for on S3 is there at once on a disk.
        answers = map(read, entries) if files.is_near else readers.map(read, entries)
        for entry, answer in zip(entries, answers, strict=True):
            if isinstance(answer, UnreadableFile):
                unreadable[keys[entry.name]] = answer
            elif answer is not None:
                found.append(answer)
    return found, unreadable


def _make_row(key: LogitKey, entry: Entry, opened: LogitsFile) -> dict[str, Any]:
    footer, pairs = opened.footer, opened.parquet.metadata.metadata
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
        "corpus": key.corpus,
        "split": key.split,
        "member": key.member,
        "view": key.view,
        **{
            name: text if isinstance(text, str) and fits_column(text) else None
            for name, text in texts.items()
        },
        "seed": seed if type(seed) is int and fits_column(seed) else None,
        "bytes": entry.size,
        "written": entry.written,
        "name": entry.name,
        "version": entry.version,
        "n": opened.n,
        "row_order_hash": footer.row_order_hash,
        "classes": json.dumps(footer.classes),
        "largest_logit": footer.largest_logit,
        "logits_hash": footer.logits_hash,
        # As they were written: they were just decoded, and to encode them again takes as long.
        "figures": pairs[b"tutti.figures"].decode(),
        "record": pairs[b"tutti.record"].decode(),
    }
    for fold in SCORED_FOLDS:
        scores = footer.find_scores(fold)
        if scores is not None:
            row |= {f"log_loss_{fold}": scores.log_loss, f"accuracy_{fold}": scores.accuracy}
    return row


def _decode_footer(row: dict[str, Any]) -> Footer:
    return Footer(
        row_order_hash=row["row_order_hash"],
        classes=tuple(json.loads(row["classes"])),
        largest_logit=row["largest_logit"],
        logits_hash=row["logits_hash"],
        scores=tuple(FoldScores(**each) for each in json.loads(row["figures"])),
        record=json.loads(row["record"]),
    )
