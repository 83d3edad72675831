"""One table of all runs: who learnt what, how, where, for how long, and what came of it."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import pyarrow as pa

from logit_store.layout import plain_name

RUNS_SCHEMA = pa.schema(
    {
        "member": pa.string(),
        "name": pa.string(),
        "kind": pa.string(),
        "corpus": pa.string(),
        "split": pa.int32(),
        "recipe": pa.string(),
        "model": pa.string(),
        "family": pa.string(),
        "seed": pa.int64(),
        "protocol": pa.string(),
        "taught_by": pa.string(),
        "log_loss_select": pa.float64(),
        "accuracy_select": pa.float64(),
        "epochs": pa.int64(),
        "best_epoch": pa.int64(),
        "training_h": pa.float64(),
        "parameters": pa.int64(),
        "macs": pa.int64(),
        "commit": pa.string(),
        "host": pa.string(),
        "accelerator": pa.string(),
        "written": pa.timestamp("us", tz="UTC"),
    }
)
"""What is known of a run; null is what its record does not tell (imported logits tell little)."""

_FILED = (
    *("member", "kind", "corpus", "split", "recipe", "family", "seed", "protocol"),
    *("log_loss_select", "accuracy_select", "written"),
)
"""Columns that the catalogue has as they are."""

T = TypeVar("T")


def table(filed: pa.Table) -> pa.Table:
    """A row a run (RUNS_SCHEMA).

    Args:
        filed: rows of the catalogue, with the records of view 0.
    """
    rows = [_row(row) for row in filed.select([*_FILED, "record"]).to_pylist()]
    return pa.Table.from_pylist(rows, schema=RUNS_SCHEMA)


def _row(filed: Mapping[str, Any]) -> dict[str, Any]:
    record = json.loads(filed["record"])
    training_s = _told(record, float, "training_s")
    return {
        **{name: filed[name] for name in _FILED},
        "name": plain_name(filed["member"]),
        "model": _told(record, str, "recipe", "model"),
        "taught_by": _told(record, str, "ensemble"),
        "epochs": _told(record, int, "epochs"),
        "best_epoch": _told(record, int, "best_epoch"),
        "training_h": None if training_s is None else training_s / 3600,
        "parameters": _told(record, int, "params"),
        "macs": _told(record, int, "macs"),
        "commit": _told(record, str, "commit"),
        "host": _told(record, str, "machine", "host"),
        "accelerator": _told(record, str, "machine", "accelerator"),
    }


def _told(record: Any, kind: type[T], *path: str) -> T | None:
    """What a record says at a path, if it is of that kind: anybody may write any record."""
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record if type(record) is kind else None
