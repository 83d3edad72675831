"""The whole page: sections and what draws, sorts and filters them, in one file."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import altair as alt
import pyarrow as pa
import pyarrow.csv
import vl_convert

from report.page.tables import plain_table
from report.parts import Figure, Section

_FILES = Path(__file__).parent


def page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """An HTML page of these sections: opens from disk, asks no network for anything.

    Args:
        title: of the page, in plain text, as all that follows.
        lead: what the report is about, below the title.
        sections: in the order of the page.
        footer: how the page came about.

    Raises:
        ValueError: two sections or two figures have the same name.
    """
    _check_names(sections)
    return Template(_file("template.html")).substitute(
        title=escape(title),
        lead=escape(lead),
        style=_file("style.css"),
        contents="\n".join(
            f'<li><a href="#{each.name}">{escape(each.title)}</a></li>' for each in sections
        ),
        sections="\n".join(map(_section, sections)),
        footer=escape(footer),
        # Its stub asks for a snippet, which it does without.
        library=_inside_script(
            vl_convert.javascript_bundle()  # pyrefly: ignore[missing-argument]
        ),
        behaviour=_file("behaviour.js"),
    )


def write_csv(sections: Sequence[Section], folder: Path) -> list[Path]:
    """The numbers of all figures, a file each, the same that the page offers; where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    places = []
    for figure in _figures(sections):
        places.append(folder / f"{figure.name}.csv")
        places[-1].write_text(_csv(figure.table), encoding="utf-8", newline="")
    return places


def _figures(sections: Sequence[Section]) -> list[Figure]:
    return [figure for section in sections for figure in section.figures]


def _check_names(sections: Sequence[Section]) -> None:
    for what, parts in (("sections", sections), ("figures", _figures(sections))):
        names = [part.name for part in parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{what} of the same name: {', '.join(twice)}")


def _file(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _inside_script(code: str) -> str:
    # An HTML parser ends a script at this, wherever in the code it stands.
    return code.replace("</script", r"<\/script")


def _section(section: Section) -> str:
    parts = [
        f'<section id="{section.name}" aria-labelledby="title-{section.name}">',
        f'<h2 id="title-{section.name}">{escape(section.title)}</h2>',
        *(f"<p>{escape(part)}</p>" for part in section.text.split("\n\n") if part.strip()),
        section.html,
        *map(_figure, section.figures),
        "</section>",
    ]
    return "\n".join(parts)


def _figure(figure: Figure) -> str:
    name, title = figure.name, escape(figure.title, quote=True)
    below = [f'<a href="#" data-csv="{name}" download="{name}.csv">Numbers as CSV</a>']
    if figure.chart is not None:
        below.append(
            f'<details data-numbers="{name}" data-title="{title}"><summary>Numbers as a table'
            '</summary><div class="scroll" tabindex="0"></div></details>'
        )
    parts = [
        f'<figure id="figure-{name}" aria-labelledby="caption-{name}">',
        f'<figcaption><h3 id="caption-{name}">{title}</h3><p>{escape(figure.caption)}</p></figcaption>',
        _drawn(figure) if figure.chart is not None else figure.html or plain_table(figure),
        f'<div class="below">{"".join(below)}</div>',
        f'<template id="csv-{name}">{escape(_csv(figure.table), quote=False)}</template>',
        "</figure>",
    ]
    return "\n".join(parts)


def _drawn(figure: Figure) -> str:
    """Where the chart will be, and what it is drawn from."""
    name, label = figure.name, escape(f"{figure.title}. {figure.caption}", quote=True)
    spec, own = _without_table(figure)
    text = escape(json.dumps(spec, separators=(",", ":")), quote=False)
    return (
        f'<div class="drawing" role="img" aria-label="{label}">'
        f'<div class="chart" data-chart="{name}" data-own="{escape(json.dumps(own))}"></div></div>\n'
        f'<div class="menus" id="menus-{name}"></div>\n'
        f'<template id="spec-{name}">{text}</template>'
    )


def _without_table(figure: Figure) -> tuple[dict[str, Any], list[str]]:
    """The chart, and the names of those of its data that are the figure's table.

    These are taken out: the page has the table already, as CSV.
    """
    if figure.chart is None:
        raise ValueError(f"figure {figure.name} has no chart")
    with alt.data_transformers.enable(  # pyrefly: ignore[bad-context-manager]
        "default", max_rows=None
    ):
        spec = figure.chart.to_dict()
    datasets = spec.get("datasets", {})
    table = _plain(figure.table.to_pylist())
    own = [name for name, rows in datasets.items() if _plain(rows) == table]
    spec["datasets"] = {name: rows for name, rows in datasets.items() if name not in own}
    return spec, own


def _plain(rows: Any) -> Any:
    return json.loads(json.dumps(rows, default=str))


def _csv(table: pa.Table) -> str:
    file = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, file)
    return file.getvalue().to_pybytes().decode()
