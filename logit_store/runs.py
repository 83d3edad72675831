"""A table of all runs: what was trained, how, where, for how long, and with which result."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import pyarrow as pa

from logit_store.json_objects import fits_column
from logit_store.keys import strip_fingerprint

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
"""What is known about a run; null: its record does not say. Imported logits have short records."""

_COPIED = (
    *("member", "kind", "corpus", "split", "recipe", "family", "seed", "protocol"),
    *("log_loss_select", "accuracy_select", "written"),
)
"""Columns that are copied from the catalogue."""

T = TypeVar("T")


def tabulate_runs(catalogued: pa.Table) -> pa.Table:
    """Return a row for each run (RUNS_SCHEMA).

    Args:
        catalogued: rows of the catalogue, of view 0.
    """
    rows = [_make_row(row) for row in catalogued.select([*_COPIED, "record"]).to_pylist()]
    return pa.Table.from_pylist(rows, schema=RUNS_SCHEMA)


def _make_row(catalogued: Mapping[str, Any]) -> dict[str, Any]:
    record = json.loads(catalogued["record"])
    training_s = _find_in_record(record, float, "training_s")
    return {
        **{name: catalogued[name] for name in _COPIED},
        "name": strip_fingerprint(catalogued["member"]),
        "model": _find_in_record(record, str, "recipe", "model"),
        "taught_by": _find_in_record(record, str, "ensemble"),
        "epochs": _find_in_record(record, int, "epochs"),
        "best_epoch": _find_in_record(record, int, "best_epoch"),
        "training_h": None if training_s is None else training_s / 3600,
        "parameters": _find_in_record(record, int, "params"),
        "macs": _find_in_record(record, int, "macs"),
        "commit": _find_in_record(record, str, "commit"),
        "host": _find_in_record(record, str, "machine", "host"),
        "accelerator": _find_in_record(record, str, "machine", "accelerator"),
    }


def _find_in_record(record: Any, kind: type[T], *path: str) -> T | None:
    """Return the value at a path of a record, or None unless it has that type: records are free."""
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record if type(record) is kind and fits_column(record) else None
