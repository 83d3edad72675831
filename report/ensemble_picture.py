"""An ensemble as a picture: how its loss fell, which members agree, how much each counts.

Dimensions: M members of the ensemble.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from logit_store import strip_fingerprint

INCHES_PER_MEMBER = 0.3
SMALLEST_INCHES = 4.0
MOST_NUMBERED_MEMBERS = 12
"""With more members, the cells of the agreement are too narrow for a number."""


def draw_ensemble(title: str, document: Mapping[str, Any], agreement_MM: NDArray) -> bytes:
    """Draw an ensemble as an SVG with three panels; equal ensembles give equal bytes.

    Args:
        title: the title above the panels.
        document: the ensemble's document in the store: `members`, `order`, `losses`, `fold`.
        agreement_MM: the share of clips, 0...1, for which two members predict the same class, in
            the order of the document's members.

    Raises:
        ValueError: the numbers of rows and columns are not that of the members.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = [strip_fingerprint(member["member"]) for member in document["members"]]
    if agreement_MM.shape != (len(names), len(names)):
        raise ValueError(f"agreement of shape {agreement_MM.shape} for {len(names)} members")
    side = max(SMALLEST_INCHES, INCHES_PER_MEMBER * max(len(names), len(document["order"])))
    figure = Figure(figsize=(4 * side, side + 1.5), layout="constrained")
    path, agreement, weights = figure.subplots(1, 3)
    figure.suptitle(title)
    _draw_path(path, document)
    _draw_agreement(agreement, names, agreement_MM)
    _draw_weights(weights, names, [member["weight"] for member in document["members"]])
    file = io.BytesIO()
    # Without these settings, each file would contain random identifiers and the time.
    with mpl.rc_context({"svg.hashsalt": title}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw_path(axes: "Axes", document: Mapping[str, Any]) -> None:
    losses = document["losses"]
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, marker="o")
    added = [strip_fingerprint(name) for name in document["order"]]
    axes.set_xticks(steps, added[: len(steps)], rotation=90)
    axes.set_xlabel("member added")
    axes.set_ylabel(f"{document['settings']['metric'].replace('_', ' ')} on {document['fold']}")
    axes.set_title("path of the selection")
    axes.grid(visible=True, alpha=0.3)


def _draw_agreement(axes: "Axes", names: Sequence[str], agreement_MM: NDArray) -> None:
    image = axes.imshow(100 * agreement_MM, cmap="viridis", vmax=100)
    ticks = np.arange(len(names))
    axes.set_xticks(ticks, names, rotation=90)
    axes.set_yticks(ticks, names)
    axes.set_title("clips that two members agree on, %")
    if len(names) <= MOST_NUMBERED_MEMBERS:
        middle = (100 * agreement_MM.min() + 100) / 2
        for (row, column), share in np.ndenumerate(100 * agreement_MM):
            colour = "black" if share > middle else "white"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def _draw_weights(axes: "Axes", names: Sequence[str], weights: Sequence[float]) -> None:
    axes.barh(np.arange(len(names)), weights)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("weight")
    axes.set_title("how much each counts")
