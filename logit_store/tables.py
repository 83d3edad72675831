"""Answers of the command line: for people, and for programs as tabs, CSV or JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from rich.table import Table


def tabs(answer: pa.Table) -> str:
    """A table as lines of tab-separated values under a header."""
    return "".join("\t".join(map(_cell, row)) + "\n" for row in _lines(answer))


def comma_separated(answer: pa.Table) -> str:
    """A table as CSV under a header, quoted where need be; null is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_lines(answer))
    return text.getvalue()


def as_json(value: object) -> str:
    """A document or the rows of a table as JSON; a number that is not finite is null."""
    return json.dumps(_strict(value), indent=1, default=_text) + "\n"


def picture(answer: pa.Table) -> Table:
    """A table for people: whatever the width, nothing is cut off."""
    table = bare_table()
    for field in answer.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(field.name, overflow="fold", justify="right" if number else "left")
    for row in zip(*(c.to_pylist() for c in answer.columns), strict=True):
        table.add_row(*map(_short, row))
    return table


def overview(members: pa.Table, now: datetime | None = None) -> Table:
    """The members of a store in 80 columns."""
    now = now or datetime.now(UTC)
    table = bare_table()
    table.add_column("member", overflow="fold")
    table.add_column("corpus", overflow="fold")
    for name in ("split", "view", "loss\nselect", "accuracy\nselect", "size", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in members.to_pylist():
        table.add_row(
            row["member"],
            row["corpus"],
            str(row["split"]),
            str(row["view"]),
            _figure(row["log_loss_select"], ".3f"),
            _figure(row["accuracy_select"], ".1%"),
            size(row["bytes"]),
            _age(now - row["written"]),
        )
    return table


def worth(figures: pa.Table) -> Table:
    """A member's figures in 80 columns."""
    table = bare_table()
    for name in ("split", "view", "fold", "recording device", "clips", "log loss", "accuracy"):
        table.add_column(name, justify="left" if name.startswith(("fold", "rec")) else "right")
    for row in figures.to_pylist():
        table.add_row(
            str(row["split"]),
            str(row["view"]),
            row["fold"],
            row["recording_device"] or "all",
            str(row["n"]),
            _figure(row["log_loss"], ".3f"),
            _figure(row["accuracy"], ".1%"),
        )
    return table


def bare_table() -> Table:
    """A table without lines."""
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))


def size(n_bytes: int) -> str:
    """Bytes for people."""
    kib = n_bytes / 1024
    return f"{kib:.0f} KiB" if kib < 1000 else f"{kib / 1024:.1f} MiB"


def _lines(answer: pa.Table) -> list[Sequence[Any]]:
    return [answer.column_names, *zip(*(c.to_pylist() for c in answer.columns), strict=True)]


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("\t", " ").replace("\n", " ")


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _cell(value)


def _strict(value: Any) -> Any:
    # Python would write NaN, which no other program takes for JSON.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    return value


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _figure(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _age(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"
