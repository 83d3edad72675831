"""The parts of a report: sections of figures, each with the numbers behind it."""

from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pyarrow as pa
from markupsafe import Markup

Row = dict[str, Any]
"""A row of a figure's table."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Figure:
    """A chart, or a table if there is no chart, with the numbers that it shows."""

    name: str
    """Its anchor in the page and the name of its CSV file: lower-case letters and hyphens,
    unique."""
    title: str
    """What it shows, as a short sentence."""
    caption: str
    """How to read it, in plain text; a screen reader reads it instead of the chart."""
    table: pa.Table
    """All numbers that are shown, as in the CSV file."""
    chart: alt.TopLevelMixin | None = None
    """Drawn from `table`; if None, the table itself is shown."""
    html: Markup = field(default_factory=Markup)
    """Without a chart, shown in place of the plain table."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Section:
    """Figures that answer one question."""

    name: str
    """Its anchor in the page: lower-case letters and hyphens, unique."""
    title: str
    text: str = ""
    """The question and the answer, in plain text; blank lines separate paragraphs."""
    figures: tuple[Figure, ...] = ()
    html: Markup = field(default_factory=Markup)
    """Other content than figures, such as players for clips."""
