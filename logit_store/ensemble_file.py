"""The file of an ensemble: a JSON document whose members are pinned by the hash of their logits."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from logit_store.errors import DamagedFile
from logit_store.files import Entry, Files

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
    try:
        document = json.loads(data)
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error
    if not isinstance(document, dict):
        raise DamagedFile(path, f"a {type(document).__name__}, expected a mapping")
    return document


def read_pinned_members(document: Mapping[str, Any], path: str) -> list[PinnedMember]:
    """Return the members of an ensemble.

    Raises:
        DamagedFile: the document at `path` has no valid list of members.
    """
    try:
        return [
            PinnedMember(each["member"], float(each["weight"]), each["hash"])
            for each in document["members"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(
            path, f"members: {error!r}, expected a list of member, weight and hash"
        ) from error


def get_reference(entry: Entry) -> str:
    """Return `NAME@HASH` of an ensemble's file."""
    return PurePosixPath(entry.name).stem


def tabulate_ensembles(files: Files, entries: Sequence[Entry]) -> pa.Table:
    """Return a row for each member of the ensembles in these files (ENSEMBLES_SCHEMA).

    Raises:
        DamagedFile: one of them is not an ensemble.
    """
    files.prefetch([entry.name for entry in entries])
    rows = [row for entry in entries for row in _make_rows(files, entry)]
    return pa.Table.from_pylist(rows, schema=ENSEMBLES_SCHEMA)


def _make_rows(files: Files, entry: Entry) -> list[dict[str, Any]]:
    path, reference = files.locate(entry.name), get_reference(entry)
    document = decode_ensemble(files.get(entry.name), reference, path)
    name, _, digits = reference.partition("@")
    corpus, split = (part.partition("=")[2] for part in entry.name.split("/")[2:4])
    members = read_pinned_members(document, path)
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
