"""Ensembles as versioned data: NAME@HASH, whose members are pinned by the hash of their logits."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from logit_store.errors import DamagedFile
from logit_store.files import Entry, Files
from logit_store.layout import ensemble_path, ensembles_pattern

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
"""One row for each member of each ensemble; `loss` is the last one of the selection's path."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A member of an ensemble, as it was when the ensemble was selected."""

    member: str
    weight: float
    logits_hash: str


def encoded(name: str, document: Mapping[str, Any]) -> tuple[str, bytes]:
    """`NAME@HASH` of an ensemble, and its file; equal documents give equal bytes.

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


def decoded(data: bytes, reference: str, path: str) -> dict[str, Any]:
    """The document in a file that lies at `path` as `reference`.

    Raises:
        DamagedFile: it is not what was written.
    """
    _, _, expected = reference.partition("@")
    if expected and _hash(data) != expected:
        raise DamagedFile(path, f"content hash {_hash(data)}, expected {expected} as in its name")
    try:
        document = json.loads(data)
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error
    if not isinstance(document, dict):
        raise DamagedFile(path, f"a {type(document).__name__}, expected a mapping")
    return document


def pins(document: Mapping[str, Any], path: str) -> list[Pin]:
    """The members of an ensemble.

    Raises:
        DamagedFile: the document at `path` does not tell them.
    """
    try:
        return [
            Pin(each["member"], float(each["weight"]), each["hash"]) for each in document["members"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(
            path, f"members: {error!r}, expected a list of member, weight and hash"
        ) from error


def reference_of(entry: Entry) -> str:
    """`NAME@HASH` of an ensemble's file."""
    return PurePosixPath(entry.name).stem


def newest(files: Files, corpus: str, split: int, reference: str) -> Entry | None:
    """The file of `NAME@HASH`, or of the ensemble `NAME` that was written last; None: not there."""
    names = [ensemble_path(corpus, split, reference)]
    if "@" not in reference:
        names.append(ensembles_pattern(corpus, split, f"{reference}@*"))
    found = [entry for name in names for entry in files.entries(name)]
    return max(found, key=lambda entry: (entry.written, entry.name), default=None)


def table(files: Files, entries: Sequence[Entry]) -> pa.Table:
    """The members of the ensembles in these files (ENSEMBLES_SCHEMA).

    Raises:
        DamagedFile: one of them is no ensemble.
    """
    files.fetch([entry.name for entry in entries])
    rows = [row for entry in entries for row in _rows(files, entry)]
    return pa.Table.from_pylist(rows, schema=ENSEMBLES_SCHEMA)


def _rows(files: Files, entry: Entry) -> list[dict[str, Any]]:
    path, reference = files.where(entry.name), reference_of(entry)
    document = decoded(files.get(entry.name), reference, path)
    name, _, digits = reference.partition("@")
    corpus, split = (part.partition("=")[2] for part in entry.name.split("/")[2:4])
    members = pins(document, path)
    whole = {
        "corpus": corpus,
        "split": int(split),
        "name": name,
        "hash": digits or None,
        "space": document.get("space"),
        "fold": document.get("fold"),
        "loss": document["losses"][-1] if document.get("losses") else None,
        "candidates": len(document.get("candidates", ())),
        "n_members": len(members),
        "written": entry.written,
    }
    return [
        whole | {"member": pin.member, "weight": pin.weight, "logits_hash": pin.logits_hash}
        for pin in members
    ]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
