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
    main_score,
    name_main_score,
    score_groups,
)
from metrics.several import (
    average_precisions,
    log_sigmoid,
    mean_average_precision,
    measure_agreement,
)

__all__ = [
    "MIN_SEEDS",
    "ConfidenceBin",
    "Interval",
    "PairedComparison",
    "Scores",
    "accuracy",
    "average_precisions",
    "bin_by_confidence",
    "bootstrap",
    "brier",
    "calibration_error",
    "group_devices",
    "log_loss",
    "log_sigmoid",
    "log_softmax",
    "macro_accuracy",
    "main_score",
    "mean_average_precision",
    "measure_agreement",
    "name_main_score",
    "paired_bootstrap",
    "score_groups",
]
