"""The file of an ensemble: a JSON document whose members are pinned by the hash of their logits."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from logit_store import parquet
from logit_store.errors import DamagedFile
from logit_store.files import Entry, Files
from logit_store.json_objects import (
    READING_ERRORS,
    check_text,
    check_type,
    decode_json,
    fits_column,
)
from logit_store.keys import check_name
from logit_store.passed_over import keep_usable
from logit_store.paths import EnsemblePlace, parse_ensemble

T = TypeVar("T")

ENSEMBLES_SCHEMA = pa.schema(
    {
        "corpus": pa.string(),
        "split": pa.int32(),
        "name": pa.string(),
        "hash": pa.string(),
        "space": pa.string(),
        "fold": pa.string(),
        "loss": pa.float64(),
        "candidates": pa.int64(),
        "n_members": pa.int64(),
        "written": pa.timestamp("us", tz="UTC"),
        "member": pa.string(),
        "weight": pa.float64(),
        "logits_hash": pa.string(),
    }
)
"""One row for each member of each ensemble; `loss` is the last loss of the selection."""


@dataclass(frozen=True, slots=True)
class PinnedMember:
    """A member of an ensemble, with the hash of its logits at the time of the selection."""

    member: str
    weight: float
    logits_hash: str


def encode_ensemble(name: str, document: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return `NAME@HASH` of an ensemble, and its file; equal documents give equal bytes.

    HASH is the first 12 hex digits of a SHA-256 over the file.

    Raises:
        ValueError: the document is no JSON.
    """
    try:
        text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"ensemble {name!r} is no JSON: {error}") from error
    data = f"{text}\n".encode()
    return f"{name}@{_hash(data)}", data


def decode_ensemble(data: bytes, reference: str, path: str) -> dict[str, Any]:
    """Decode the file of an ensemble.

    Args:
        data: bytes of the file.
        reference: `NAME@HASH`; the hash is checked.
        path: of the file, for error messages.

    Raises:
        DamagedFile: it is not what was written.
    """
    _, _, expected = reference.partition("@")
    if expected and _hash(data) != expected:
        raise DamagedFile(path, f"content hash {_hash(data)}, expected {expected} as in its name")
    return decode_json(data, path)


def read_pinned_members(document: Mapping[str, Any], path: str) -> list[PinnedMember]:
    """Return the members of an ensemble.

    Raises:
        DamagedFile: the document at `path` has no valid list of members.
    """
    try:
        members = [_read_pinned_member(each) for each in check_type(document["members"], list)]
        if not sum(each.weight for each in members) > 0:
            raise ValueError("no member has a weight above 0")
    except READING_ERRORS as error:
        raise DamagedFile(
            path, f"members: {error!r}, expected a list of member, weight and hash"
        ) from error
    return members


def _read_pinned_member(plain: Mapping[str, Any]) -> PinnedMember:
    weight = plain["weight"]
    if type(weight) not in (int, float) or not 0 <= float(weight) < math.inf:
        raise ValueError(f"weight {weight!r}, expected a finite number that is not negative")
    check_name("member", plain["member"])
    return PinnedMember(plain["member"], float(weight), check_text(plain["hash"]))


def find_ensembles(files: Files, pattern: str) -> list[Entry]:
    """List the files of ensembles that match a pattern; those out of place are passed over."""
    return keep_usable(files.find(pattern), lambda entry: locate_ensemble(files, entry))


def locate_ensemble(files: Files, entry: Entry) -> EnsemblePlace:
    """Return the place of an ensemble's file.

    Raises:
        StrayFile: no ensemble has its path.
    """
    return parse_ensemble(entry.name, files.locate(entry.name))


def tabulate_ensembles(files: Files, entries: Sequence[Entry]) -> pa.Table:
    """Return a row for each member of the ensembles in these files (ENSEMBLES_SCHEMA).

    Files that are damaged, or were deleted since they were listed, are passed over.
    """
    files.prefetch([entry.name for entry in entries])
    tables: list[pa.Table] = []
    keep_usable(entries, lambda entry: tables.append(_tabulate_ensemble(files, entry)))
    return pa.concat_tables([parquet.make_empty(ENSEMBLES_SCHEMA), *tables])


def _tabulate_ensemble(files: Files, entry: Entry) -> pa.Table:
    path, place = files.locate(entry.name), locate_ensemble(files, entry)
    document = decode_ensemble(files.get(entry.name), place.reference, path)
    name, _, digits = place.reference.partition("@")
    members = read_pinned_members(document, path)
    losses = _get(document, "losses", list) or [None]
    whole = {
        "corpus": place.corpus,
        "split": place.split,
        "name": name,
        "hash": digits or None,
        "space": _get(document, "space", str),
        "fold": _get(document, "fold", str),
        "loss": losses[-1] if type(losses[-1]) is float else None,
        "candidates": len(_get(document, "candidates", list) or ()),
        "n_members": len(members),
        "written": entry.written,
    }
    rows = [
        whole | {"member": pin.member, "weight": pin.weight, "logits_hash": pin.logits_hash}
        for pin in members
    ]
    return pa.Table.from_pylist(rows, schema=ENSEMBLES_SCHEMA)


def _get(document: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    """Return a value of a document, or None unless it has that type: only `members` is checked."""
    value = document.get(name)
    return value if type(value) is kind and fits_column(value) else None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
