"""What a store knows of the files that were fetched for it: size and hash at their first use."""

import functools
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logit_store.errors import DamagedFile
from redact import strip_secrets
from teachers.errors import DamagedWeights

if TYPE_CHECKING:
    from logit_store import LogitStore


def check_fetched(address: str, place: Path, store: "LogitStore") -> None:
    """Record what a file is, or compare it with the record.

    Args:
        address: where the file came from.
        place: where it is on this machine.
        store: holds the record.

    Raises:
        DamagedWeights: it is not the recorded file, or the record cannot be read.
    """
    name = f"weights/v1/{place.name}/fetched.json"
    n_bytes, sha256 = place.stat().st_size, hash_file(place)
    if name not in store.objects:
        store.objects.write_json(name, _describe(address, n_bytes, sha256))
        return
    record = _read_record(store, name)
    if record["sha256"] != sha256:
        raise DamagedWeights(
            str(place),
            f"sha256 {sha256} ({n_bytes} bytes), but at the first use ({record['when']}) it "
            f"was {record['sha256']} ({record['bytes']} bytes)",
            f"Delete the file to fetch it again. If a new version has been published and you want "
            f"that, delete {store.address}/{name} too: earlier results began with the old one",
        )


def _describe(address: str, n_bytes: int, sha256: str) -> dict[str, Any]:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    # Others read the store: it must hold neither passwords nor signatures.
    return {"address": strip_secrets(address), "bytes": n_bytes, "sha256": sha256, "when": when}


def hash_file(place: Path) -> str:
    """Return the SHA-256 of a file, which a process reads once, and again if it has changed."""
    stat = place.stat()
    return _hash_file(place, stat.st_size, stat.st_mtime_ns)


def _read_record(store: "LogitStore", name: str) -> dict[str, Any]:
    try:
        record = store.objects.read_json(name)
        return {key: record[key] for key in ("bytes", "sha256", "when")}
    except (DamagedFile, KeyError) as error:
        raise DamagedWeights(
            f"{store.address}/{name}",
            f"not a record of a fetched file: {type(error).__name__}: {error}",
            "Delete it: the next use writes it again",
        ) from error


@functools.lru_cache(maxsize=256)
def _hash_file(place: Path, n_bytes: int, changed_ns: int) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
