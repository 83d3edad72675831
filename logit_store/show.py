"""One member of a store: what it is, what it is worth, and which files are its own."""

from dataclasses import asdict
from typing import Any

import pyarrow as pa

from logit_store.errors import MissingMember
from logit_store.layout import LogitKey, logits_path, plain_name
from logit_store.store import LogitStore

FIGURES_SCHEMA = pa.schema(
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
"""One row for each fold and recording device of each view; null is all devices."""


def keys_of(store: LogitStore, name: str) -> list[LogitKey]:
    """The logits of the one member that is called so, or else of the one whose name begins so.

    Raises:
        MissingMember: there is none, or there are several.
    """
    keys = store.keys(view=None)
    members = {key.member for key in keys}
    called_so = {member for member in members if name in (member, plain_name(member))}
    near = sorted(called_so or {member for member in members if member.startswith(name)})
    if len(near) != 1:
        raise MissingMember(name, store=store.address, near=near)
    return sorted(
        (key for key in keys if key.member == near[0]),
        key=lambda key: (key.corpus, key.split, key.view),
    )


def figures(store: LogitStore, keys: list[LogitKey]) -> pa.Table:
    """What a member is worth (FIGURES_SCHEMA)."""
    rows = [
        asdict(key) | asdict(each)
        for key, footer in store.footers(keys).items()
        for each in footer.figures
    ]
    return pa.Table.from_pylist(rows, schema=FIGURES_SCHEMA)


def document(store: LogitStore, keys: list[LogitKey]) -> dict[str, Any]:
    """All that the store knows of a member, as JSON takes it."""
    footers = store.footers(keys)
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
        "figures": figures(store, keys).to_pylist(),
        "files": [
            {"name": each.name, "bytes": each.size, "written": each.written.isoformat()}
            for pattern in patterns
            for each in store.files.entries(pattern)
        ],
        "record": footers[first].record,
    }
