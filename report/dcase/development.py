"""A system's scores on the development set, as a submission states them.

Dimensions: N test clips of a split, K classes.
"""

from typing import Any

import numpy as np

from audio.clips import Corpus
from metrics import Scores, log_loss, macro_accuracy, score_groups
from report.dcase.challenge import CHALLENGE_SCENES, RECORDING_DEVICES
from report.dcase.meta import SubmissionError

DIGITS = 4
"""Decimals of percentages and of log losses."""


def score_development(corpus: Corpus, split: int, logits_NK: np.ndarray) -> dict[str, Any]:
    """Score logits of the test fold by accuracy in percent and log loss in nats.

    The scores are overall, by scene and by recording device.

    The overall accuracy is the challenge's: the mean of the scenes' accuracies. The accuracy of a
    recording device is that of all its clips.

    Args:
        corpus: The development set.
        split: The split that the system was trained on.
        logits_NK: Logits of the test clips of the split, in the corpus's order.

    Raises:
        SubmissionError: The scenes or recording devices of the test clips are not the challenge's.
    """
    rows = corpus.rows(split, "test")
    labels_N = corpus.labels()[rows]
    by_scene = score_groups(logits_NK, labels_N, corpus.column("scene")[rows])
    by_device = score_groups(logits_NK, labels_N, corpus.column("recording_device")[rows])
    _refuse_others(corpus, split, "scenes", by_scene, CHALLENGE_SCENES)
    _refuse_others(corpus, split, "recording devices", by_device, RECORDING_DEVICES)
    return {
        "overall": _round_scores(
            macro_accuracy(logits_NK, labels_N), log_loss(logits_NK, labels_N)
        ),
        "class_wise": _round_groups(by_scene),
        "device_wise": _round_groups(by_device),
    }


def _refuse_others(
    corpus: Corpus, split: int, what: str, found: dict[str, Scores], expected: tuple[str, ...]
) -> None:
    if tuple(found) != expected:
        raise SubmissionError(
            f"corpus {corpus.name} in {corpus.root}: the test clips of split {split} have the "
            f"{what} {', '.join(found)}, expected {', '.join(expected)} as in TAU 2022 Mobile"
        )


def _round_groups(groups: dict[str, Scores]) -> dict[str, Any]:
    return {
        name: _round_scores(scores.accuracy, scores.log_loss) for name, scores in groups.items()
    }


def _round_scores(accuracy: float, loss: float) -> dict[str, float]:
    return {"accuracy": round(100 * accuracy, DIGITS), "logloss": round(loss, DIGITS)}
