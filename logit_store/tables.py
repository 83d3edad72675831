"""Output of the command line: for people, and for programs as tabs, CSV or JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from rich.table import Table


def format_tabs(answer: pa.Table) -> str:
    """Format a table as lines of tab-separated values under a header."""
    return "".join("\t".join(map(_format_cell, row)) + "\n" for row in _list_lines(answer))


def format_csv(answer: pa.Table) -> str:
    """Format a table as CSV under a header, quoted where necessary; null is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_list_lines(answer))
    return text.getvalue()


def format_json(value: object) -> str:
    """Format a document or the rows of a table as JSON; numbers that are not finite become null."""
    return json.dumps(_make_strict(value), indent=1, default=_format_text) + "\n"


def draw_rows(answer: pa.Table) -> Table:
    """Draw a table for people; at any width, nothing is cut off."""
    table = make_bare_table()
    for field in answer.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(field.name, overflow="fold", justify="right" if number else "left")
    for row in zip(*map(list_values, answer.columns), strict=True):
        table.add_row(*map(_format_short, row))
    return table


def draw_members(members: pa.Table, now: datetime | None = None) -> Table:
    """Draw the members of a store in 80 columns."""
    now = now or datetime.now(UTC)
    table = make_bare_table()
    table.add_column("member", overflow="fold")
    table.add_column("corpus", overflow="fold")
    for name in ("split", "view", "loss\nselect", "accuracy\nselect", "size", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in list_rows(members):
        table.add_row(
            row["member"],
            row["corpus"],
            str(row["split"]),
            str(row["view"]),
            _format_score(row["log_loss_select"], ".3f"),
            _format_score(row["accuracy_select"], ".1%"),
            format_size(row["bytes"]),
            _format_age(now - row["written"]),
        )
    return table


def draw_embeddings(embeddings: pa.Table, now: datetime | None = None) -> Table:
    """Draw the embeddings of a store in 80 columns."""
    now = now or datetime.now(UTC)
    table = make_bare_table()
    table.add_column("backbone", overflow="fold")
    table.add_column("corpus", overflow="fold")
    for name in ("view", "clips", "dimensions", "size", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in list_rows(embeddings):
        numbers = (str(row["view"]), f"{row['clips']:,}", f"{row['dimensions']:,}")
        size, age = format_size(row["bytes"]), _format_age(now - row["written"])
        table.add_row(row["backbone"], row["corpus"], *numbers, size, age)
    return table


def draw_scores(scores: pa.Table) -> Table:
    """Draw the scores of a member in 80 columns."""
    table = make_bare_table()
    for name in ("split", "view", "fold", "recording device", "clips", "log loss", "accuracy"):
        table.add_column(name, justify="left" if name.startswith(("fold", "rec")) else "right")
    for row in scores.to_pylist():
        table.add_row(
            str(row["split"]),
            str(row["view"]),
            row["fold"],
            row["recording_device"] or "all",
            str(row["n"]),
            _format_score(row["log_loss"], ".3f"),
            _format_score(row["accuracy"], ".1%"),
        )
    return table


def list_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    columns = map(list_values, table.columns)
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def list_values(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column, without importing pandas.

    pyarrow imports it for times with a zone, which takes longer than all else that `ls` does.
    """
    if column.type != pa.timestamp("us", tz="UTC"):
        return column.to_pylist()
    times = column.cast(pa.timestamp("us")).to_pylist()
    return [time and time.replace(tzinfo=UTC) for time in times]


def make_bare_table() -> Table:
    """Make a table without lines."""
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))


def format_size(n_bytes: int) -> str:
    """Format a number of bytes for people."""
    kib = n_bytes / 1024
    return f"{kib:.0f} KiB" if kib < 1000 else f"{kib / 1024:.1f} MiB"


def _list_lines(answer: pa.Table) -> list[Sequence[Any]]:
    return [answer.column_names, *zip(*map(list_values, answer.columns), strict=True)]


def _format_cell(value: object) -> str:
    return "" if value is None else str(value).replace("\t", " ").replace("\n", " ")


def _format_short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _format_cell(value)


def _make_strict(value: Any) -> Any:
    # Python would write NaN, which is not JSON.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _make_strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_make_strict(each) for each in value]
    return value


def _format_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _format_score(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _format_age(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"
