"""What a system is worth on the development set, as a submission tells it.

Dimensions: N test clips of a split, K classes.
"""

from typing import Any

import numpy as np

from audio.clips import Corpus
from metrics import Scores, by_group, log_loss, macro_accuracy
from report.dcase.challenge import RECORDING_DEVICES, SCENES
from report.dcase.meta import SubmissionError

DIGITS = 4
"""Of percentages and of log losses."""


def development_results(corpus: Corpus, split: int, logits_NK: np.ndarray) -> dict[str, Any]:
    """Accuracy in percent and log loss in nats on the test fold: overall, by scene, by device.

    The overall accuracy is the challenge's: the mean of the scenes' accuracies. The accuracy of a
    recording device is that of its clips, pooled.

    Args:
        corpus: The development set.
        split: What the system learnt from.
        logits_NK: Of its test clips, in the corpus's order.

    Raises:
        SubmissionError: Test clips of a scene or a recording device are lacking, or others there.
    """
    rows = corpus.rows(split, "test")
    labels_N = corpus.labels()[rows]
    by_scene = by_group(logits_NK, labels_N, corpus.column("scene")[rows])
    by_device = by_group(logits_NK, labels_N, corpus.column("recording_device")[rows])
    _refuse_others(corpus, split, "scenes", by_scene, SCENES)
    _refuse_others(corpus, split, "recording devices", by_device, RECORDING_DEVICES)
    return {
        "overall": _told(macro_accuracy(logits_NK, labels_N), log_loss(logits_NK, labels_N)),
        "class_wise": _all_told(by_scene),
        "device_wise": _all_told(by_device),
    }


def _refuse_others(
    corpus: Corpus, split: int, what: str, found: dict[str, Scores], expected: tuple[str, ...]
) -> None:
    if tuple(found) != expected:
        raise SubmissionError(
            f"corpus {corpus.name} in {corpus.root}: the test clips of split {split} are of the "
            f"{what} {', '.join(found)}, expected {', '.join(expected)} as in TAU 2022 Mobile"
        )


def _all_told(groups: dict[str, Scores]) -> dict[str, Any]:
    return {name: _told(scores.accuracy, scores.log_loss) for name, scores in groups.items()}


def _told(accuracy: float, loss: float) -> dict[str, float]:
    return {"accuracy": round(100 * accuracy, DIGITS), "logloss": round(loss, DIGITS)}
