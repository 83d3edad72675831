"""From the members' logits to one set of soft labels (M members, N clips, K classes).

A name is imported when it is first used, because numba and the kernels take seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from disk import choose_numba_cache

if TYPE_CHECKING:
    from ensemble.bag import BaggedSelection, select_in_bags
    from ensemble.calibrate import (
        Calibration,
        Reliability,
        fit_temperature,
        fit_temperatures,
        measure_calibration,
    )
    from ensemble.combine import mean_logits, soft_labels
    from ensemble.optimism import Optimism, estimate_optimism
    from ensemble.options import PRESETS, MeanSpace, SelectionMetric, SelectionOptions
    from ensemble.stepwise import Selection, select
    from ensemble.weigh import convex_weights

__all__ = [
    "PRESETS",
    "BaggedSelection",
    "Calibration",
    "MeanSpace",
    "Optimism",
    "Reliability",
    "Selection",
    "SelectionMetric",
    "SelectionOptions",
    "convex_weights",
    "estimate_optimism",
    "fit_temperature",
    "fit_temperatures",
    "mean_logits",
    "measure_calibration",
    "select",
    "select_in_bags",
    "soft_labels",
]

_MODULES = {
    "bag": ("BaggedSelection", "select_in_bags"),
    "calibrate": (
        "Calibration",
        "Reliability",
        "fit_temperature",
        "fit_temperatures",
        "measure_calibration",
    ),
    "combine": ("mean_logits", "soft_labels"),
    "optimism": ("Optimism", "estimate_optimism"),
    "options": ("PRESETS", "MeanSpace", "SelectionMetric", "SelectionOptions"),
    "stepwise": ("Selection", "select"),
    "weigh": ("convex_weights",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ensemble' has no attribute {name!r}")
    choose_numba_cache()
    return getattr(import_module(f"ensemble.{_HOMES[name]}"), name)
