"""Scores of logits (N clips, K classes, J bins)."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.several import binary_losses, check_targets, mean_average_precision

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CALIBRATION_BINS = 15
"""As in Guo et al. 2017."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The scores of a group of clips."""

    n: int
    """Number of clips in the group."""
    accuracy: float
    """Share of them whose largest logit is the true class, 0...1."""
    log_loss: float
    """Mean cross entropy in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfidenceBin:
    """Clips for which a system is about equally confident."""

    upper: float
    """The bin's upper border, 0...1."""
    n: int
    """Number of clips in the bin."""
    confidence: float
    """Mean of the clips' largest probabilities, 0...1."""
    accuracy: float
    """Share of them whose largest logit is the true class, 0...1."""


def log_softmax(logits_NK: ArrayLike) -> Floats:
    """Return the logarithms of the class probabilities, float64; stable for any finite logits."""
    logits = np.asarray(logits_NK, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_loss(logits_NK: ArrayLike, labels_N: ArrayLike) -> float:
    """Return the mean cross entropy over clips, in nats.

    Of several labels, zeros and ones [N, K], it is the mean over clips and classes of the binary ones.

    Raises:
        ValueError: There are no clips, shapes or labels do not match, or logits are not finite.
    """
    if np.ndim(labels_N) == 2:
        return float(binary_losses(*check_targets(logits_NK, labels_N)).mean())
    return float(losses(*check_predictions(logits_NK, labels_N)).mean())


def accuracy(logits_NK: ArrayLike, labels_N: ArrayLike) -> float:
    """Return the share of clips whose largest logit (the first, if equal) is the true class, 0...1.

    Raises:
        ValueError: There are no clips, shapes or labels do not match, or logits are not finite.
    """
    return float(hits(*check_predictions(logits_NK, labels_N)).mean())


def macro_accuracy(logits_NK: ArrayLike, labels_N: ArrayLike) -> float:
    """Return the mean accuracy of the classes that occur, 0...1.

    Raises:
        ValueError: There are no clips, shapes or labels do not match, or logits are not finite.
    """
    logits, labels = check_predictions(logits_NK, labels_N)
    n_classes = logits.shape[1]
    clips_K = np.bincount(labels, minlength=n_classes)
    hits_K = np.bincount(labels, weights=hits(logits, labels), minlength=n_classes)
    occurs_K = clips_K > 0
    return float((hits_K[occurs_K] / clips_K[occurs_K]).mean())


def main_score(logits_NK: ArrayLike, truth_N: ArrayLike) -> float:
    """Return what people compare systems by, 0...1: macro accuracy, or of several labels the mAP.

    Args:
        logits_NK: Logits of all clips.
        truth_N: True classes [N]; or of several labels zeros and ones, [N, K].

    Raises:
        ValueError: As for `macro_accuracy` or `mean_average_precision`.
    """
    of_several = np.ndim(truth_N) == 2
    return (mean_average_precision if of_several else macro_accuracy)(logits_NK, truth_N)


def name_main_score(truth_N: ArrayLike) -> Literal["macro_accuracy", "mean_average_precision"]:
    """Return the name of the `main_score` of such true classes, as metrics are called here."""
    return "mean_average_precision" if np.ndim(truth_N) == 2 else "macro_accuracy"


def brier(logits_NK: ArrayLike, labels_N: ArrayLike) -> float:
    """Return the mean squared distance of the probabilities from the truth over clips, 0...2.

    Brier 1950, "Verification of forecasts expressed in terms of probability", eq. 2.

    Raises:
        ValueError: There are no clips, shapes or labels do not match, or logits are not finite.
    """
    logits, labels = check_predictions(logits_NK, labels_N)
    distances_NK = np.exp(log_softmax(logits))
    distances_NK[np.arange(len(labels)), labels] -= 1
    return float((distances_NK**2).sum(axis=1).mean())


def calibration_error(logits_NK: ArrayLike, labels_N: ArrayLike) -> float:
    """Return the expected calibration error, 0...1.

    It is the mean distance between confidence and accuracy over the bins of `bin_by_confidence`,
    weighted by their numbers of clips (Guo et al. 2017, arXiv:1706.04599, eq. 3).

    Raises:
        ValueError: There are no clips, shapes or labels do not match, or logits are not finite.
    """
    bins = bin_by_confidence(logits_NK, labels_N)
    return sum(each.n * abs(each.confidence - each.accuracy) for each in bins) / sum(
        each.n for each in bins
    )


def bin_by_confidence(logits_NK: ArrayLike, labels_N: ArrayLike) -> list[ConfidenceBin]:
    """Sort clips into CALIBRATION_BINS bins of equal width by their largest probability.

    A bin includes its upper border and not its lower one. Empty bins are left out.

    Raises:
        ValueError: There are no clips, shapes or labels do not match, or logits are not finite.
    """
    logits, labels = check_predictions(logits_NK, labels_N)
    hit_N, confidence_N = hits(logits, labels), np.exp(log_softmax(logits).max(axis=1))
    bin_N = np.ceil(confidence_N * CALIBRATION_BINS).astype(np.int64) - 1
    n_J = np.bincount(bin_N)
    confidence_J, hits_J = np.bincount(bin_N, confidence_N), np.bincount(bin_N, hit_N)
    return [
        ConfidenceBin(
            upper=(j + 1) / CALIBRATION_BINS,
            n=int(n_J[j]),
            confidence=float(confidence_J[j] / n_J[j]),
            accuracy=float(hits_J[j] / n_J[j]),
        )
        for j in np.flatnonzero(n_J)
    ]


def score_groups(
    logits_NK: ArrayLike, labels_N: ArrayLike, groups_N: ArrayLike
) -> dict[str, Scores]:
    """Return the scores of each group of clips, sorted by the name of the group.

    Args:
        logits_NK: Logits of all clips.
        labels_N: Their true classes.
        groups_N: Group of each clip: its recording device, scene, city...

    Raises:
        ValueError: As in `log_loss`, or there is not one group per clip.
    """
    logits, labels = check_predictions(logits_NK, labels_N)
    groups = np.asarray(groups_N).astype(str)
    if groups.shape != labels.shape:
        raise ValueError(f"groups have shape {groups.shape}, expected {labels.shape}: one per clip")
    hit_N, loss_N = hits(logits, labels), losses(logits, labels)
    names, group_N = np.unique(groups, return_inverse=True)
    clips = np.bincount(group_N)
    hit, loss = np.bincount(group_N, weights=hit_N), np.bincount(group_N, weights=loss_N)
    return {
        str(name): Scores(
            n=int(clips[i]), accuracy=float(hit[i] / clips[i]), log_loss=float(loss[i] / clips[i])
        )
        for i, name in enumerate(names)
    }


def group_devices(
    recording_devices_N: ArrayLike,
    *,
    real: Collection[str],
    seen: Collection[str],
    unseen: Collection[str],
) -> NDArray[np.str_]:
    """Return `real`, `seen` or `unseen` for each clip, for use with `score_groups`.

    Args:
        recording_devices_N: Recording device of each clip.
        real: Real devices that also occur in the training clips; TAU: a, b, c.
        seen: Simulated devices that also occur in the training clips; TAU: s1, s2, s3.
        unseen: Devices that do not occur in the training clips; TAU: s4, s5, s6.

    Raises:
        ValueError: A device is in two of the sets, or a clip's device in none.
    """
    sets = {"real": real, "seen": seen, "unseen": unseen}
    group_of = {device: group for group, devices in sets.items() for device in devices}
    twice = sorted(d for d in group_of if sum(d in devices for devices in sets.values()) > 1)
    if twice:
        raise ValueError(f"recording devices in more than one of real, seen, unseen: {twice}")
    devices = np.asarray(recording_devices_N).astype(str)
    names, device_N = np.unique(devices, return_inverse=True)
    unknown = [str(name) for name in names if str(name) not in group_of]
    if unknown:
        raise ValueError(f"recording devices {unknown} are in none of real, seen, unseen: add them")
    return np.array([group_of[str(name)] for name in names], dtype=np.str_)[device_N]


def check_predictions(logits_NK: ArrayLike, labels_N: ArrayLike) -> tuple[Floats, Integers]:
    """Check logits and labels; return them as float64 and int64.

    Raises:
        ValueError: There are no clips, shapes or labels do not match, or logits are not finite.
    """
    logits, labels = np.asarray(logits_NK, np.float64), np.asarray(labels_N)
    if logits.ndim != 2 or 0 in logits.shape or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits of shape {logits.shape} and labels of shape {labels.shape}, expected "
            "(clips, classes) and (clips,) with at least one clip"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}, expected integers: the classes' numbers")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels lie within {labels.min()}...{labels.max()}, expected "
            f"0...{logits.shape[1] - 1} for {logits.shape[1]} classes"
        )
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise ValueError(f"logits of {len(broken)} clip(s) are not finite, first row {broken[0]}")
    return logits, labels.astype(np.int64)


def hits(logits_NK: Floats, labels_N: Integers) -> NDArray[np.bool_]:
    """Return whether each clip's largest logit is the true class."""
    return logits_NK.argmax(axis=1) == labels_N


def losses(logits_NK: Floats, labels_N: Integers) -> Floats:
    """Return the cross entropy of each clip, in nats."""
    return -np.take_along_axis(log_softmax(logits_NK), labels_N[:, None], axis=1)[:, 0]
