"""A figure's numbers as an HTML table that can be sorted and searched."""

from html import escape
from typing import Any

import pyarrow as pa

from report.parts import Figure

SEARCHED_FROM = 15
"""Tables with so many rows have a field to search them with."""
LONG_FROM = 20
"""Tables of more rows scroll in a box of some height; shorter ones are shown whole."""


def plain_table(figure: Figure) -> str:
    """The figure's table, one column for each of its own."""
    name, table = figure.name, figure.table
    numeric = [_is_number(field.type) for field in table.schema]
    head = [
        header(column.replace("_", " "), is_number=numeric[i])
        for i, column in enumerate(table.column_names)
    ]
    rows = [
        "".join(cell(value, is_number=numeric[i]) for i, value in enumerate(row.values()))
        for row in table.to_pylist()
    ]
    search = filters(f"table-{name}") if len(rows) >= SEARCHED_FROM else ""
    return search + framed(name, figure.title, head, [f"<tr>{row}</tr>" for row in rows])


def framed(name: str, caption: str, head: list[str], rows: list[str], kind: str = "") -> str:
    """A sortable table in a box of its own, which scrolls where the page is too narrow for it."""
    box = "scroll long" if len(rows) > LONG_FROM else "scroll"
    return (
        f'<div class="{box}" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}">'
        f'<table id="table-{name}" class="sortable {kind}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def filters(table: str, more: str = "") -> str:
    """What a table is searched with; more fields are named `kind` or `split`."""
    return (
        f'<form class="filters" role="search" data-table="{table}" hidden>'
        '<label>Search <input type="search" name="words" autocomplete="off"></label>'
        f'{more}<span class="count" role="status"></span></form>'
    )


def header(title: str, *, is_number: bool, sorted_as: str = "", note: str = "") -> str:
    """The header of a column, which sorts by it."""
    order = f' aria-sort="{sorted_as}"' if sorted_as else ""
    hint = f' title="{escape(note, quote=True)}"' if note else ""
    return (
        f'<th scope="col"{_class(is_number)}{order}{hint}>'
        f'<button type="button">{escape(title)}</button></th>'
    )


def cell(value: Any, *, is_number: bool, text: str | None = None) -> str:
    """A value, sorted by what it is and shown as `text`, which is safe HTML, if that is given."""
    sort = "" if value is None else str(value)
    shown = escape(_shown(value)) if text is None else text
    return f'<td{_class(is_number)} data-sort="{escape(sort, quote=True)}">{shown}</td>'


def _class(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _shown(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)
