"""What systems are worth on the test fold, with intervals.

Dimensions: N clips of the corpus, K classes; A seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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

    system: System
    accuracy: Interval
    """Macro-average accuracy, with the 95 % interval over recordings."""
    seed_deviation: float | None
    """Standard deviation of the seeds' macro accuracies; None of a single seed."""
    seen_accuracy: float
    """On recording devices that the split's training clips have."""
    unseen_accuracy: float | None
    """On recording devices that they have not; None if test has none."""
    log_loss: float


@dataclass(frozen=True, eq=False, slots=True)
class _TestFold:
    """Labels and recordings of the test clips, once for each seed.

    Pooling the seeds' clips makes every figure a mean over seeds, and drawing a recording draws
    its clips for all seeds at once.
    """

    rows: np.ndarray
    labels: np.ndarray
    recordings: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, corpus: Corpus, split: int, seeds: int) -> "_TestFold":
        rows = corpus.rows(split, "test")
        devices = corpus.column("recording_device")
        known = np.unique(devices[corpus.rows(split, "fit", "select")])
        return cls(
            rows,
            np.tile(corpus.labels()[rows], seeds),
            np.tile(corpus.column("recording")[rows], seeds),
            np.tile(np.isin(devices[rows], known), seeds),
        )

    def pooled(self, system: System) -> np.ndarray:
        return np.concatenate([logits_NK[self.rows] for logits_NK in system.logits_ANK])


def summary(corpus: Corpus, system: System) -> Summary:
    """A system's figures on the test fold of its split."""
    test = _TestFold.of(corpus, system.split, len(system.logits_ANK))
    logits = test.pooled(system)
    unseen = ~test.seen
    return Summary(
        system=system,
        accuracy=bootstrap(logits, test.labels, test.recordings),
        seed_deviation=_seed_deviation(corpus, system),
        seen_accuracy=macro_accuracy(logits[test.seen], test.labels[test.seen]),
        unseen_accuracy=(
            macro_accuracy(logits[unseen], test.labels[unseen]) if unseen.any() else None
        ),
        log_loss=log_loss(logits, test.labels),
    )


def _seed_deviation(corpus: Corpus, system: System) -> float | None:
    if len(system.logits_ANK) < 2:
        return None
    rows = corpus.rows(system.split, "test")
    labels = corpus.labels()[rows]
    return float(np.std([macro_accuracy(each[rows], labels) for each in system.logits_ANK], ddof=1))


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
    test = _TestFold.of(corpus, first.split, counts[0])
    judged = ~test.seen if unseen_only else np.ones_like(test.seen)
    return paired_bootstrap(
        test.pooled(first)[judged],
        test.pooled(second)[judged],
        test.labels[judged],
        test.recordings[judged],
    )
