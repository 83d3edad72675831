"""One member of a store: its scores, its files and its record."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from logit_store.errors import MissingMember
from logit_store.keys import EmbeddingKey, LogitKey, strip_fingerprint
from logit_store.paths import embeddings_path, logits_path
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
    near = _find_near(name, {key.member for key in keys})
    if len(near) != 1:
        raise MissingMember(name, store=store.address, near=near)
    return sorted(
        (key for key in keys if key.member == near[0]),
        key=lambda key: (key.corpus, key.split, key.view),
    )


def find_embedding_keys(store: LogitStore, name: str) -> list[EmbeddingKey]:
    """Return the keys of the embeddings of the backbone with this name, or of the one that begins with it.

    Returns:
        Its keys; none if no backbone fits.

    Raises:
        MissingMember: several fit.
    """
    keys = store.embeddings.keys(view=None)
    near = _find_near(name, {key.backbone for key in keys})
    if len(near) > 1:
        raise MissingMember(name, store=store.address, near=near)
    return [key for key in keys if key.backbone in near]


def _find_near(name: str, names: set[str]) -> list[str]:
    """Return the names that are meant: with or without fingerprint, or else by their beginning."""
    exact = {each for each in names if name in (each, strip_fingerprint(each))}
    return sorted(exact or {each for each in names if each.startswith(name)})


def describe_backbone(
    store: LogitStore, keys: list[EmbeddingKey]
) -> tuple[pa.Table, dict[str, Any]]:
    """Return a row for each of a backbone's embeddings (EMBEDDINGS_SCHEMA), and all about them for JSON."""
    footers = {key: store.embeddings.read_footer(key) for key in keys}
    table = store.embeddings.tabulate()
    table = table.filter(pc.equal(table["backbone"], keys[0].backbone))
    return table, {
        "backbone": keys[0].backbone,
        "embeddings": [
            asdict(key)
            | {
                "dimensions": footer.n_dims,
                "embeddings_hash": footer.embeddings_hash,
                "row_order_hash": footer.row_order_hash,
                "largest_value": footer.largest_value,
            }
            for key, footer in footers.items()
        ],
        "files": _list_files(store, map(embeddings_path, keys)),
        "record": footers[keys[0]].record,
    }


def _list_files(store: LogitStore, patterns: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "bytes": each.size, "written": each.written.isoformat()}
        for pattern in patterns
        for each in store.files.find(pattern)
    ]


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
        "files": _list_files(store, patterns),
        "record": footers[first].record,
    }
