"""One colour for one thing in all charts, readable on a light page and on a dark one.

All have a luminance between 0.15 and 0.27 (WCAG 2.2), so a contrast of 3 or more to white and to
near black, and stay apart for colour-blind eyes (after Okabe and Ito 2008). What is neither system
nor fold keeps the page's own colours: no chart names black or white. In `shaded` cells stands text
in the page's colour, so the page's theme gives `text` marks its own.
"""

from typing import Any

import altair as alt

KINDS = {"teacher": "#0072B2", "ensemble": "#D55E00", "student": "#009E73"}
"""By what a system is; students that learnt from teachers."""
ALONE_COLOUR = "#B0609A"
"""Students that learnt from labels alone: what the others are compared with."""
NEUTRAL = "#808080"
"""Lines to compare with: no difference, perfect calibration, published figures."""
ALARM = "#CC3B30"
"""Around systems for which test clips chose something."""
DARKEST = 0.7
"""Opacity of the fullest cell: text in the page's colour still has a contrast of 4.5 on it."""


def kind_colour(legend: alt.Legend | None = None) -> alt.Color:
    """The colour of a column `kind` that holds teacher, ensemble or student."""
    scale = alt.Scale(domain=list(KINDS), range=list(KINDS.values()))
    return alt.Color("kind:N", title=None, scale=scale, legend=legend)


def shaded(field: str, low: float, high: float) -> alt.Opacity:
    """How full a cell is of its colour, from `low`, which is empty, to `high`."""
    scale = alt.Scale(domain=[low, high], range=[0, DARKEST], clamp=True)
    return alt.Opacity(f"{field}:Q", scale=scale, legend=None)


def alarm_stroke() -> Any:
    """The stroke of filled points: a red ring where a column `protocol` says `published`."""
    return alt.condition(
        alt.datum.protocol == "published", alt.value(ALARM), alt.value("transparent")
    )
