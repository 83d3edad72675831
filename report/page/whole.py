"""The whole page: sections and what draws, sorts and filters them, in one file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pyarrow as pa
import pyarrow.csv
import vl_convert
from markupsafe import Markup

from disk import write_whole
from report.page.render import render
from report.parts import Figure, Section

_FILES = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A chart as the page's JavaScript reads it; both fields are JSON."""

    specification: str
    own_datasets: str
    """The names of those of its data sets that are the figure's table."""


def render_page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """Render the sections as one HTML page, which opens from disk and needs no network.

    Args:
        title: Title of the page. All texts are plain text.
        lead: What the report is about; stands below the title.
        sections: In the order of the page.
        footer: How the page was made.

    Raises:
        ValueError: Two sections or two figures have the same name.
    """
    _check_names(sections)
    return render(
        "page.html",
        title=title,
        lead=lead,
        sections=sections,
        footer=footer,
        style=_read_file("style.css"),
        behaviour=_read_file("behaviour.js"),
        library=_read_vega(),
        table=render_table,
        read_chart=_read_chart,
        csv=_encode_csv,
    )


def render_table(figure: Figure) -> Markup:
    """Render a figure's numbers as a table that can be sorted and searched."""
    columns = {field.name: _is_number(field.type) for field in figure.table.schema}
    return render("plain_table.html", figure=figure, columns=columns, rows=figure.table.to_pylist())


def write_csv(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Write the numbers of each figure into a CSV file, as the page offers them.

    Returns:
        The files.
    """
    files = []
    for figure in _list_figures(sections):
        files.append(folder / f"{figure.name}.csv")
        write_whole(files[-1], _encode_csv(figure.table).encode())
    return files


def _list_figures(sections: Sequence[Section]) -> list[Figure]:
    return [figure for section in sections for figure in section.figures]


def _check_names(sections: Sequence[Section]) -> None:
    for what, parts in (("sections", sections), ("figures", _list_figures(sections))):
        names = [part.name for part in parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{what} of the same name: {', '.join(twice)}")


def _read_file(name: str) -> Markup:
    return Markup((_FILES / name).read_text(encoding="utf-8"))


def _read_vega() -> Markup:
    # The stub of vl_convert requires a snippet, but the function does not.
    code = vl_convert.javascript_bundle()  # pyrefly: ignore[missing-argument]
    # An HTML parser ends a script at this text, wherever in the code it stands.
    return Markup(code.replace("</script", r"<\/script"))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _read_chart(figure: Figure) -> _Drawing:
    """Return a figure's chart without the data sets that are the figure's table.

    The page has that table already, as CSV.
    """
    if figure.chart is None:
        raise ValueError(f"figure {figure.name} has no chart")
    with alt.data_transformers.enable(  # pyrefly: ignore[bad-context-manager]
        "default", max_rows=None
    ):
        specification = figure.chart.to_dict()
    datasets = specification.get("datasets", {})
    table = _as_json_values(figure.table.to_pylist())
    own = [name for name, rows in datasets.items() if _as_json_values(rows) == table]
    specification["datasets"] = {name: rows for name, rows in datasets.items() if name not in own}
    return _Drawing(json.dumps(specification, separators=(",", ":")), json.dumps(own))


def _as_json_values(rows: Any) -> Any:
    return json.loads(json.dumps(rows, default=str))


def _encode_csv(table: pa.Table) -> str:
    file = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, file)
    return file.getvalue().to_pybytes().decode()
