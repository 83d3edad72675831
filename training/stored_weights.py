"""The weights of a member, checked before they are loaded."""

import hashlib
from pathlib import Path

from logit_store import DamagedFile, LogitStore
from logit_store.paths import logits_path
from training.keys import MemberKind, locate_weights


def fetch_weights(store: LogitStore, kind: MemberKind, member: str) -> Path:
    """Return the path of a member's weights, or of a copy of them, on this machine.

    The file is compared with the hash in the record of the member's logits.

    Raises:
        MissingObject: there are no such weights.
        DamagedFile: they are not what was written.
    """
    name = locate_weights(kind, member)
    path = store.objects.fetch(name)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    for key in store.keys(member=member):
        expected = store.read_record(key).get("weights_sha256", found)
        if found != expected:
            logits = store.files.locate(logits_path(key))
            raise DamagedFile(
                store.objects.locate(name),
                f"SHA-256 {found}, expected {expected} as in the record",
                way_out=f"delete it and the member's logits, {logits}, and run its job again",
            )
    return path
