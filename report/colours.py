"""One colour for one thing in all charts, readable on a light page and on a dark one.

All have a luminance between 0.15 and 0.27 (WCAG 2.2), hence a contrast of at least 3 to white and
to near black, and differ for colour-blind eyes (after Okabe and Ito 2008). Everything else has the
page's own colours: no chart names black or white. The text in shaded cells has the page's text
colour, which its theme sets for `text` marks.
"""

from typing import Any

import altair as alt

KIND_COLOURS = {"teacher": "#0072B2", "ensemble": "#D55E00", "student": "#009E73"}
"""Colours of the kinds of systems; that of students is for students that learnt from teachers."""
ALONE_COLOUR = "#B0609A"
"""The colour of students that learnt from labels alone, with which the others are compared."""
NEUTRAL = "#808080"
"""The colour of reference lines: no difference, perfect calibration, published figures."""
ALARM = "#CC3B30"
"""The colour around systems for which test clips chose something."""
DARKEST = 0.7
"""Opacity of the darkest cell: text in the page's colour still has a contrast of 4.5 on it."""


def kind_colour(legend: alt.Legend | None = None) -> alt.Color:
    """Return the colour encoding of a column `kind` that holds teacher, ensemble or student."""
    scale = alt.Scale(domain=list(KIND_COLOURS), range=list(KIND_COLOURS.values()))
    return alt.Color("kind:N", title=None, scale=scale, legend=legend)


def shade(field: str, low: float, high: float) -> alt.Opacity:
    """Return the opacity encoding of cells: transparent at `low`, darkest at `high`."""
    scale = alt.Scale(domain=[low, high], range=[0, DARKEST], clamp=True)
    return alt.Opacity(f"{field}:Q", scale=scale, legend=None)


def alarm_stroke() -> Any:
    """Return the stroke of filled points: a red ring where the column `protocol` is `published`."""
    return alt.condition(
        alt.datum.protocol == "published", alt.value(ALARM), alt.value("transparent")
    )
