"""What a report is made of: sections of figures, each with the numbers behind it."""

from dataclasses import dataclass

import altair as alt
import pyarrow as pa


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Figure:
    """A chart, or a table where there is no chart, with the numbers that it shows."""

    name: str
    """Its place in the page and the name of its CSV file: small letters and hyphens, unique."""
    title: str
    """What it shows, as a short sentence."""
    caption: str
    """How to read it, in plain text; a screen reader says it instead of the chart."""
    table: pa.Table
    """All numbers that are shown; what the CSV file holds."""
    chart: alt.TopLevelMixin | None = None
    """Drawn from `table`; None shows the table itself."""
    html: str = ""
    """Without a chart, what is shown in place of the plain table: safe HTML."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Section:
    """Figures that answer one question."""

    name: str
    """Its place in the page: small letters and hyphens, unique."""
    title: str
    text: str = ""
    """What is asked and what came out, in plain text; blank lines part paragraphs."""
    figures: tuple[Figure, ...] = ()
    html: str = ""
    """More that is no figure, such as players for clips: safe HTML, everything else escaped."""
