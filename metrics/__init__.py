"""What a result is worth: accuracy, log loss, both by group, and intervals."""

from metrics.intervals import Comparison, Interval, bootstrap, paired_bootstrap
from metrics.scores import (
    Scores,
    accuracy,
    brier,
    by_group,
    calibration_error,
    device_groups,
    log_loss,
    log_softmax,
    macro_accuracy,
)

__all__ = [
    "Comparison",
    "Interval",
    "Scores",
    "accuracy",
    "bootstrap",
    "brier",
    "by_group",
    "calibration_error",
    "device_groups",
    "log_loss",
    "log_softmax",
    "macro_accuracy",
    "paired_bootstrap",
]
