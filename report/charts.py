"""What several charts have in common."""

from collections.abc import Sequence
from typing import TypeVar

import altair as alt
import pyarrow as pa

from report.colours import ALONE_COLOUR, KINDS, NEUTRAL
from report.featured import ALONE, BEST, ENSEMBLE, MEDIAN, TAUGHT

ROW_PX = 24
"""Height of a row of bars, dots or cells."""
PHONE_PX = 500
"""A chart that is not as wide as this is on a phone."""
LABEL_PX = alt.ExprRef("min(220, 0.4 * (containerSize()[0] || 600))")
"""Names longer than this are cut; the tooltip has them whole. Outside a page there is no container."""
NAMES = alt.Axis(title=None, labelLimit=LABEL_PX)
"""For rows of systems and members."""
ROLE_COLOURS = {
    BEST: KINDS["teacher"],
    MEDIAN: KINDS["teacher"],
    ENSEMBLE: KINDS["ensemble"],
    ALONE: ALONE_COLOUR,
    TAUGHT: KINDS["student"],
}
WORDS_BELOW_EACH_OTHER = alt.Axis(
    orient="top",
    labelAngle=0,
    labelExpr="split(datum.label, ' ')",
    labelFontSize=10,
    labelPadding=20,
    ticks=False,
    domain=False,
    title=None,
)
"""For columns that are too narrow for a role's name in one line."""

Chart = TypeVar("Chart", alt.Chart, alt.LayerChart)


def role_colour(legend: alt.Legend | None = None) -> alt.Color:
    """The colour of a column `role` that holds `featured.ROLES`."""
    scale = alt.Scale(domain=list(ROLE_COLOURS), range=list(ROLE_COLOURS.values()))
    return alt.Color("role:N", title=None, scale=scale, legend=legend)


def role_dash(legend: alt.Legend | None = None) -> alt.StrokeDash:
    """Solid lines, but for the teacher in the middle, whose colour is that of the best."""
    dashes = [[4, 3] if role == MEDIAN else [1, 0] for role in ROLE_COLOURS]
    scale = alt.Scale(domain=list(ROLE_COLOURS), range=dashes)
    return alt.StrokeDash("role:N", title=None, scale=scale, legend=legend)


def legend_of(names: Sequence[str], *, on_a_phone: int = 2) -> alt.Legend:
    """A legend of these names above the chart, with so many columns where the page is narrow."""
    return alt.Legend(
        orient="top",
        columns=alt.ExprRef(f"containerSize()[0] < {PHONE_PX} ? {on_a_phone} : {len(names)}"),
        values=list(names),
        labelLimit=220,
        symbolOpacity=1,
    )


def layered(table: pa.Table, *charts: alt.Chart) -> alt.LayerChart:
    """Charts on top of each other, the last one uppermost; those without data draw the table."""
    return alt.LayerChart(data=table, layer=list(charts))


def reference() -> alt.Chart:
    """For a line to compare with: one mark, whatever the table holds and a menu shows of it."""
    return alt.Chart(alt.InlineData(values=[{}])).mark_rule(color=NEUTRAL)


def choosable(chart: Chart, field: str, values: Sequence[str], first: str) -> Chart:
    """The chart with a menu beneath it, which shows the rows of one value of a field at a time.

    Args:
        chart: of all rows.
        field: a column of its table.
        values: that the column has, in the menu's order.
        first: what is shown at first, and in print.
    """
    if len(values) < 2:
        return chart
    menu = alt.binding_select(options=list(values), name=f"{field}: ")
    shown = alt.param(name="shown", value=first, bind=menu)
    return chart.add_params(shown).transform_filter(f"datum['{field}'] == shown")
