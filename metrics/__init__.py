"""Metrics of logits: accuracy, log loss, calibration, scores by group, and intervals."""

from metrics.intervals import MIN_SEEDS, Interval, PairedComparison, bootstrap, paired_bootstrap
from metrics.scores import (
    ConfidenceBin,
    Scores,
    accuracy,
    bin_by_confidence,
    brier,
    calibration_error,
    group_devices,
    log_loss,
    log_softmax,
    macro_accuracy,
    score_groups,
)

__all__ = [
    "MIN_SEEDS",
    "ConfidenceBin",
    "Interval",
    "PairedComparison",
    "Scores",
    "accuracy",
    "bin_by_confidence",
    "bootstrap",
    "brier",
    "calibration_error",
    "group_devices",
    "log_loss",
    "log_softmax",
    "macro_accuracy",
    "paired_bootstrap",
    "score_groups",
]
