"""From the members' logits to one set of soft labels (M members, N clips, K classes)."""

from ensemble.bag import Bagged, bagged
from ensemble.calibrate import Calibration, Reliability, calibration, temperature, temperatures
from ensemble.combine import mean_logits, soft_labels
from ensemble.optimism import Optimism, optimism
from ensemble.select import PRESETS, Options, Selection, select
from ensemble.weigh import convex_weights

__all__ = [
    "PRESETS",
    "Bagged",
    "Calibration",
    "Optimism",
    "Options",
    "Reliability",
    "Selection",
    "bagged",
    "calibration",
    "convex_weights",
    "mean_logits",
    "optimism",
    "select",
    "soft_labels",
    "temperature",
    "temperatures",
]
