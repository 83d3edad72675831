"""What systems are worth on the test fold, with intervals.

Dimensions: N clips of the corpus, P of its test fold, K classes; A seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio.clips import Corpus
from metrics import Comparison, Interval, bootstrap, log_loss, macro_accuracy, paired_bootstrap


@dataclass(frozen=True, eq=False, slots=True)
class System:
    """A teacher, an ensemble or a student, once per seed."""

    name: str
    split: int
    logits_ANK: Sequence[np.ndarray]
    """Logits of all clips of the corpus, per seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A system's figures on test: means over its seeds, log loss in nats."""

    accuracy: Interval
    """Macro-average accuracy, with the 95 % interval over recordings."""
    seed_deviation: float | None
    """Standard deviation of the seeds' macro accuracies; None of a single seed."""
    seen_accuracy: float | None
    """On recording devices that the split's training clips have; None if test has none."""
    unseen_accuracy: float | None
    """On recording devices that they have not; None if test has none."""
    log_loss: float


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class JudgedClips:
    """The test clips of a split, in the corpus's order; all arrays are [P]."""

    split: int
    rows: NDArray[np.int64]
    """Where they are in the corpus."""
    labels: NDArray[np.int64]
    recordings: np.ndarray
    recording_devices: np.ndarray
    cities: np.ndarray
    seen: NDArray[np.bool_]
    """Whether the split's training clips have a clip's recording device."""

    @classmethod
    def of(cls, corpus: Corpus, split: int) -> "JudgedClips":
        """That of a split.

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


def summary(corpus: Corpus, system: System) -> Summary:
    """A system's figures on the test fold of its split."""
    test = JudgedClips.of(corpus, system.split)
    return judged(test, [logits_NK[test.rows] for logits_NK in system.logits_ANK])


def judged(test: JudgedClips, logits_APK: Sequence[np.ndarray]) -> Summary:
    """The figures of logits of the test clips, one array a seed.

    Pooling the seeds' clips makes every figure a mean over seeds, and drawing a recording draws
    its clips for all seeds at once.
    """
    n_seeds = len(logits_APK)
    logits, labels = np.concatenate(logits_APK), np.tile(test.labels, n_seeds)
    seen = np.tile(test.seen, n_seeds)
    of_seeds = [macro_accuracy(each, test.labels) for each in logits_APK]
    return Summary(
        accuracy=bootstrap(logits, labels, np.tile(test.recordings, n_seeds)),
        seed_deviation=float(np.std(of_seeds, ddof=1)) if n_seeds > 1 else None,
        seen_accuracy=_accuracy_of(logits, labels, seen),
        unseen_accuracy=_accuracy_of(logits, labels, ~seen),
        log_loss=log_loss(logits, labels),
    )


def _accuracy_of(logits: np.ndarray, labels: np.ndarray, some: np.ndarray) -> float | None:
    return macro_accuracy(logits[some], labels[some]) if some.any() else None


def compare(
    corpus: Corpus, first: System, second: System, *, unseen_only: bool = False
) -> Comparison:
    """Macro-average accuracy of two systems on the same test clips, and of their difference.

    Args:
        corpus: of the clips.
        first: what the other is compared with.
        second: of the same split, with as many seeds.
        unseen_only: on recording devices only that the split's training clips have not.

    Raises:
        ValueError: the systems are of different splits or numbers of seeds, or there are less than
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
    return compared(test, *pair, unseen_only=unseen_only)


def compared(
    test: JudgedClips,
    first_APK: Sequence[np.ndarray],
    second_APK: Sequence[np.ndarray],
    *,
    unseen_only: bool = False,
) -> Comparison:
    """`compare` of logits of the test clips, as many seeds of each system."""
    n_seeds = len(first_APK)
    clips = np.tile(~test.seen if unseen_only else np.ones_like(test.seen), n_seeds)
    return paired_bootstrap(
        np.concatenate(first_APK)[clips],
        np.concatenate(second_APK)[clips],
        np.tile(test.labels, n_seeds)[clips],
        np.tile(test.recordings, n_seeds)[clips],
    )
