"""Scores of systems on the test fold, with intervals.

Dimensions: N clips of the corpus, P of its test fold, K classes; A seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio.clips import Corpus
from metrics import (
    Interval,
    PairedComparison,
    bootstrap,
    log_loss,
    macro_accuracy,
    paired_bootstrap,
)


@dataclass(frozen=True, eq=False, slots=True)
class System:
    """A teacher, an ensemble or a student, with all its seeds."""

    name: str
    split: int
    logits_ANK: Sequence[np.ndarray]
    """Logits of all clips of the corpus for each seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A system's scores on test: means over its seeds, log loss in nats."""

    accuracy: Interval
    """Macro-average accuracy, with the 95 % interval over recordings."""
    seed_deviation: float | None
    """Standard deviation of the seeds' macro accuracies; None for a single seed."""
    seen_accuracy: float | None
    """Accuracy on recording devices of the split's training clips; None if test has none of
    them."""
    unseen_accuracy: float | None
    """Accuracy on other recording devices; None if test has none of them."""
    log_loss: float


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class JudgedClips:
    """The test clips of a split, in the corpus's order; all arrays are [P]."""

    split: int
    rows: NDArray[np.int64]
    """Their rows in the corpus."""
    labels: NDArray[np.int64]
    recordings: np.ndarray
    recording_devices: np.ndarray
    cities: np.ndarray
    seen: NDArray[np.bool_]
    """Whether a clip's recording device is in the split's training clips."""

    @classmethod
    def of(cls, corpus: Corpus, split: int) -> "JudgedClips":
        """Find the test clips of a split.

        Raises:
            CorpusError: the split has no test clip.
        """
        rows = corpus.rows(split, "test")
        devices = corpus.column("recording_device")
        known = np.unique(devices[corpus.rows(split, "fit", "select")])
        return cls(
            split=split,
            rows=rows,
            labels=corpus.labels()[rows],
            recordings=corpus.column("recording")[rows],
            recording_devices=devices[rows],
            cities=corpus.column("city")[rows],
            seen=np.isin(devices[rows], known),
        )


def summarise(corpus: Corpus, system: System) -> Summary:
    """Summarise a system's scores on the test fold of its split."""
    test = JudgedClips.of(corpus, system.split)
    return summarise_logits(test, [logits_NK[test.rows] for logits_NK in system.logits_ANK])


def summarise_logits(test: JudgedClips, logits_APK: Sequence[np.ndarray]) -> Summary:
    """Summarise logits of the test clips, one array for each seed.

    The clips of all seeds are pooled. So every score is a mean over seeds, and drawing a recording
    draws its clips for all seeds at once.
    """
    n_seeds = len(logits_APK)
    logits, labels = np.concatenate(logits_APK), np.tile(test.labels, n_seeds)
    seen = np.tile(test.seen, n_seeds)
    accuracies = [macro_accuracy(each, test.labels) for each in logits_APK]
    return Summary(
        accuracy=bootstrap(logits, labels, np.tile(test.recordings, n_seeds)),
        seed_deviation=float(np.std(accuracies, ddof=1)) if n_seeds > 1 else None,
        seen_accuracy=_measure_accuracy(logits, labels, seen),
        unseen_accuracy=_measure_accuracy(logits, labels, ~seen),
        log_loss=log_loss(logits, labels),
    )


def _measure_accuracy(logits: np.ndarray, labels: np.ndarray, some: np.ndarray) -> float | None:
    return macro_accuracy(logits[some], labels[some]) if some.any() else None


def compare_systems(
    corpus: Corpus, first: System, second: System, *, unseen_only: bool = False
) -> PairedComparison:
    """Compare the macro-average accuracy of two systems on the same test clips.

    Args:
        corpus: the corpus of the clips.
        first: the system with which the other is compared.
        second: a system of the same split with the same number of seeds.
        unseen_only: whether to use only clips of recording devices that are not in the split's
            training clips.

    Raises:
        ValueError: the systems are of different splits or numbers of seeds, or there are fewer than
            two recordings to compare on.
    """
    counts = len(first.logits_ANK), len(second.logits_ANK)
    if first.split != second.split or counts[0] != counts[1]:
        raise ValueError(
            f"{first.name} (split {first.split}, {counts[0]} seeds) and {second.name} (split "
            f"{second.split}, {counts[1]} seeds): expected the same split and number of seeds"
        )
    test = JudgedClips.of(corpus, first.split)
    pair = [[each_NK[test.rows] for each_NK in system.logits_ANK] for system in (first, second)]
    return compare_logits(test, *pair, unseen_only=unseen_only)


def compare_logits(
    test: JudgedClips,
    first_APK: Sequence[np.ndarray],
    second_APK: Sequence[np.ndarray],
    *,
    unseen_only: bool = False,
) -> PairedComparison:
    """Compare logits of the test clips as `compare_systems` does, with equal numbers of seeds."""
    n_seeds = len(first_APK)
    clips = np.tile(~test.seen if unseen_only else np.ones_like(test.seen), n_seeds)
    return paired_bootstrap(
        np.concatenate(first_APK)[clips],
        np.concatenate(second_APK)[clips],
        np.tile(test.labels, n_seeds)[clips],
        np.tile(test.recordings, n_seeds)[clips],
    )
