"""Parts that several charts share."""

from collections.abc import Sequence
from typing import TypeVar

import altair as alt
import pyarrow as pa

from report.choice import ALONE, BEST, ENSEMBLE, MEDIAN, TAUGHT
from report.colours import ALONE_COLOUR, KIND_COLOURS, NEUTRAL

ROW_PX = 24
"""Height of a row of bars, dots or cells."""
PHONE_PX = 500
"""A narrower chart is taken to be on a phone."""
LABEL_PX = alt.ExprRef("min(220, 0.4 * (containerSize()[0] || 600))")
"""Longer names are cut; the tooltip shows them in full. Outside a page there is no container."""
NAME_AXIS = alt.Axis(title=None, labelLimit=LABEL_PX)
"""The axis for rows of systems and members."""
ROLE_COLOURS = {
    BEST: KIND_COLOURS["teacher"],
    MEDIAN: KIND_COLOURS["teacher"],
    ENSEMBLE: KIND_COLOURS["ensemble"],
    ALONE: ALONE_COLOUR,
    TAUGHT: KIND_COLOURS["student"],
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
"""The axis for columns too narrow for the name of a role on one line."""

Chart = TypeVar("Chart", alt.Chart, alt.LayerChart)


def role_colour(legend: alt.Legend | None = None) -> alt.Color:
    """Return the colour encoding of a column `role` with values of `featured.ROLES`."""
    scale = alt.Scale(domain=list(ROLE_COLOURS), range=list(ROLE_COLOURS.values()))
    return alt.Color("role:N", title=None, scale=scale, legend=legend)


def role_dash(legend: alt.Legend | None = None) -> alt.StrokeDash:
    """Return the dash encoding of `role`: the median teacher, coloured as the best, is dashed."""
    dashes = [[4, 3] if role == MEDIAN else [1, 0] for role in ROLE_COLOURS]
    scale = alt.Scale(domain=list(ROLE_COLOURS), range=dashes)
    return alt.StrokeDash("role:N", title=None, scale=scale, legend=legend)


def make_legend(names: Sequence[str], *, on_a_phone: int = 2) -> alt.Legend:
    """Make a legend of names above the chart, with `on_a_phone` columns on a narrow page."""
    return alt.Legend(
        orient="top",
        columns=alt.ExprRef(f"containerSize()[0] < {PHONE_PX} ? {on_a_phone} : {len(names)}"),
        values=list(names),
        labelLimit=220,
        symbolOpacity=1,
    )


def layer_charts(table: pa.Table, *charts: alt.Chart) -> alt.LayerChart:
    """Layer charts, the last one on top; a chart without data draws the table."""
    return alt.LayerChart(data=table, layer=list(charts))


def make_reference() -> alt.Chart:
    """Make a chart for a reference line: one mark, whatever rows the table has or a menu shows."""
    return alt.Chart(alt.InlineData(values=[{}])).mark_rule(color=NEUTRAL)


def add_menu(chart: Chart, field: str, values: Sequence[str], first: str) -> Chart:
    """Add a menu below a chart, which shows the rows of one value of a field at a time.

    Args:
        chart: the chart of all rows.
        field: a column of its table.
        values: the values of that column in the order of the menu.
        first: the value that is shown at first, and in print.
    """
    if len(values) < 2:
        return chart
    menu = alt.binding_select(options=list(values), name=f"{field}: ")
    shown = alt.param(name="shown", value=first, bind=menu)
    return chart.add_params(shown).transform_filter(f"datum['{field}'] == shown")
