"""One member of a store: its scores, its files and its record."""

from dataclasses import asdict
from typing import Any

import pyarrow as pa

from logit_store.errors import MissingMember
from logit_store.keys import LogitKey, strip_fingerprint
from logit_store.paths import logits_path
from logit_store.store import LogitStore

SCORES_SCHEMA = pa.schema(
    {
        "corpus": pa.string(),
        "split": pa.int32(),
        "member": pa.string(),
        "view": pa.int32(),
        "fold": pa.string(),
        "recording_device": pa.string(),
        "n": pa.int64(),
        "log_loss": pa.float64(),
        "accuracy": pa.float64(),
    }
)
"""One row for each fold and recording device of each view; null: all devices."""


def find_member_keys(store: LogitStore, name: str) -> list[LogitKey]:
    """Return the keys of the member with this name, or else of the one whose name begins with it.

    Raises:
        MissingMember: no member fits, or several.
    """
    keys = store.keys(view=None)
    members = {key.member for key in keys}
    exact = {member for member in members if name in (member, strip_fingerprint(member))}
    near = sorted(exact or {member for member in members if member.startswith(name)})
    if len(near) != 1:
        raise MissingMember(name, store=store.address, near=near)
    return sorted(
        (key for key in keys if key.member == near[0]),
        key=lambda key: (key.corpus, key.split, key.view),
    )


def tabulate_scores(store: LogitStore, keys: list[LogitKey]) -> pa.Table:
    """Return the scores of a member (SCORES_SCHEMA)."""
    rows = [
        asdict(key) | asdict(each)
        for key, footer in store.read_footers(keys).items()
        for each in footer.scores
    ]
    return pa.Table.from_pylist(rows, schema=SCORES_SCHEMA)


def describe_member(store: LogitStore, keys: list[LogitKey]) -> dict[str, Any]:
    """Return all that the store knows about a member, for JSON."""
    footers = store.read_footers(keys)
    first = keys[0]
    folders = [f"{kind}/v1/{first.member}/*" for kind in ("teachers", "students")]
    patterns = [*map(logits_path, keys), *folders]
    return {
        "member": first.member,
        "logits": [
            asdict(key)
            | {
                "logits_hash": footer.logits_hash,
                "row_order_hash": footer.row_order_hash,
                "largest_logit": footer.largest_logit,
            }
            for key, footer in footers.items()
        ],
        "figures": tabulate_scores(store, keys).to_pylist(),
        "files": [
            {"name": each.name, "bytes": each.size, "written": each.written.isoformat()}
            for pattern in patterns
            for each in store.files.find(pattern)
        ],
        "record": footers[first].record,
    }
