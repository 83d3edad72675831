"""The weights of a member, checked before they are loaded."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from logit_store import DamagedFile, LogitStore
from logit_store.paths import logits_path
from training.errors import CrossFitted
from training.keys import MemberKind, locate_record, locate_weights


def fetch_weights(
    store: LogitStore, kind: MemberKind, member: str, *, part: int | None = None
) -> Path:
    """Return the path of a member's weights, or of a copy of them, on this machine.

    The file is compared with the hash in the record of the member's logits.

    Args:
        store: holds them.
        kind: "teacher" or "student".
        member: its name.
        part: which model of a cross-fitted member, counted from 1; compared with its own record.

    Raises:
        MissingObject: there are no such weights.
        DamagedFile: they are not what was written.
        CrossFitted: the member consists of several models, and no part is named.
    """
    name = locate_weights(kind, member, part)
    if part is not None:
        record = locate_record(kind, member, part)
        expected = store.objects.read_json(record)["weights_sha256"]
        others = f"{store.objects.locate(record)} and the member's logits"
        return _fetch(store, name, {others: expected})
    expected_by = {}
    for key in store.keys(member=member):
        known = store.read_record(key)
        if "parts" in known:
            raise CrossFitted(member, len(known["parts"]))
        if "weights_sha256" in known:
            others = f"the member's logits, {store.files.locate(logits_path(key))}"
            expected_by[others] = known["weights_sha256"]
    return _fetch(store, name, expected_by)


def _fetch(store: LogitStore, name: str, expected_by: Mapping[str, str]) -> Path:
    """Return the path of an object, if its hash is what others expect, which are named for errors."""
    path = store.objects.fetch(name)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    for others, expected in expected_by.items():
        if found != expected:
            raise DamagedFile(
                store.objects.locate(name),
                f"SHA-256 {found}, expected {expected} as in the record",
                way_out=f"delete it and {others}, and run its job again",
            )
    return path
