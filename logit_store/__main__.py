"""What a store holds, on the command line: python -m logit_store ls | sql."""

import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import pyarrow as pa
import tyro
from rich.console import Console
from rich.table import Table

from logit_store import LogitStore, LogitStoreError

PROGRAM = "python -m logit_store"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ls:
    """List the members: who they are and what they are worth."""

    store: str
    """The store's folder."""
    corpus: str | None = None
    """Only members of this corpus."""
    split: Literal[5, 10, 25, 50, 100] | None = None
    """Only members that learnt from this split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sql:
    """Ask DuckDB over the views clips, logits, members and predictions."""

    query: tyro.conf.Positional[str]
    """For example "select member, avg(log_loss) from predictions group by member"."""
    store: str
    """The store's folder."""


Command = Annotated[Ls, tyro.conf.subcommand("ls")] | Annotated[Sql, tyro.conf.subcommand("sql")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 1 for what the store refuses, 2 for what cannot be read."""
    command = _parsed(arguments)
    try:
        answer = _answer(command)
        if not sys.stdout.isatty():
            sys.stdout.write(plain(answer))
            sys.stdout.flush()
        else:
            Console().print(overview(answer) if isinstance(command, Ls) else picture(answer))
    except LogitStoreError as error:
        sys.stderr.write(f"{PROGRAM}: {' '.join(str(error).split())}\n")
        return 1
    except BrokenPipeError:
        # The reader (head, less) has seen enough; else Python complains again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _answer(command: Ls | Sql) -> pa.Table:
    store = LogitStore(command.store)
    if isinstance(command, Sql):
        return store.sql(command.query)
    if command.corpus is not None:
        store.clips(command.corpus)
    return store.members(command.corpus, command.split)


def _parsed(arguments: Sequence[str] | None) -> Ls | Sql:
    # tyro draws a box of many lines around its complaint; one line is what scripts can use.
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(Command, prog=PROGRAM, args=arguments)
    except SystemExit:
        words = re.sub(r"[\u2500-\u257f]|\x1b\[[0-9;]*m", " ", complaint.getvalue()).split()
        if words:
            sys.stderr.write(f"{PROGRAM}: {' '.join(words)}\n")
        raise


def plain(answer: pa.Table) -> str:
    """A table as lines of tab-separated values under a header, for other programs."""
    rows = [answer.column_names, *zip(*(c.to_pylist() for c in answer.columns), strict=True)]
    return "".join("\t".join(map(_cell, row)) + "\n" for row in rows)


def picture(answer: pa.Table) -> Table:
    """A table for people: whatever the width, nothing is cut off."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for field in answer.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(field.name, overflow="fold", justify="right" if number else "left")
    for row in zip(*(c.to_pylist() for c in answer.columns), strict=True):
        table.add_row(*map(_short, row))
    return table


def overview(members: pa.Table, now: datetime | None = None) -> Table:
    """The members of a store in 80 columns."""
    now = now or datetime.now(UTC)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
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
            _size(row["bytes"]),
            _age(now - row["written"]),
        )
    return table


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("\t", " ").replace("\n", " ")


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _cell(value)


def _figure(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _size(n_bytes: int) -> str:
    kib = n_bytes / 1024
    return f"{kib:.0f} KiB" if kib < 1000 else f"{kib / 1024:.1f} MiB"


def _age(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"


if __name__ == "__main__":
    sys.exit(main())
