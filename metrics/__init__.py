"""What a result is worth: accuracy, log loss, both by group, and intervals."""

from metrics.intervals import Comparison, Interval, bootstrap, paired_bootstrap
from metrics.scores import (
    ConfidenceBin,
    Scores,
    accuracy,
    brier,
    by_group,
    calibration_error,
    confidence_bins,
    device_groups,
    log_loss,
    log_softmax,
    macro_accuracy,
)

__all__ = [
    "Comparison",
    "ConfidenceBin",
    "Interval",
    "Scores",
    "accuracy",
    "bootstrap",
    "brier",
    "by_group",
    "calibration_error",
    "confidence_bins",
    "device_groups",
    "log_loss",
    "log_softmax",
    "macro_accuracy",
    "paired_bootstrap",
]
