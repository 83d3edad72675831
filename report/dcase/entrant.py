"""A student as it is handed in, and what it says of the evaluation set.

Dimensions: N clips of the evaluation set, K classes, C channels, F mel bands, T frames.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audio.clips import Corpus
from audio.feed import Feed
from audio.log_mel import FrontEnd
from audio.views import Augmentation
from logit_store import LogitKey, LogitStore, fingerprint
from students import stored
from students.complexity import Complexity, measure
from students.student import Student
from training import predict

Precision = Literal["fp16", "fp32"]
"""Of a student's weights."""


@dataclass(frozen=True, eq=False, slots=True)
class Entrant:
    """A student at the precision in which it is handed in."""

    key: LogitKey
    student: Student
    front_end: FrontEnd
    complexity: Complexity
    precision: Precision
    identity: str
    """Stands for weights and precision."""


def load(store: LogitStore, key: LogitKey, corpus: Corpus, precision: Precision) -> Entrant:
    """A student out of the store, its weights rounded to a precision.

    Args:
        store: Has its weights and its record.
        key: Of its logits.
        corpus: That it learnt.
        precision: Of its weights; whatever it is, they compute in float32.

    Raises:
        NoStudent: It was not taught here.
        LogitStoreError: It is not there, or its weights are not.
    """
    taken = stored.load(store, key, len(corpus.scenes))
    if precision == "fp16":
        taken.student.half().float()
    front_end = taken.front_end
    shape = front_end.shape(round(corpus.clip_duration_s * front_end.sample_rate))
    complexity = measure(taken.student, (1, *shape))
    weights = store.record(key)["weights_sha256"]
    identity = fingerprint({"weights": weights, "precision": precision})
    return Entrant(key, taken.student, front_end, complexity, precision, identity)


def evaluation_logits(
    entrant: Entrant,
    evaluation: Corpus,
    store: LogitStore,
    device: torch.device,
    on_clips: Callable[[int], None] = lambda n: None,
) -> np.ndarray:
    """Logits of all clips of the evaluation set, float32 [N, K].

    They are kept beside the student's weights, and found there by whoever asks again.

    Args:
        entrant: Who predicts.
        evaluation: The clips; decoded now if this machine has not yet.
        store: Where the logits are kept.
        device: Where to predict.
        on_clips: Called with the number of clips in each batch that is done.
    """
    clips = evaluation.identity()[:12]
    name = f"students/v1/{entrant.key.member}/evaluation-{clips}-{entrant.identity}.npy"
    if store.has_object(name):
        on_clips(len(evaluation))
        return np.load(io.BytesIO(store.read_object(name)), allow_pickle=False)
    feed = Feed.open(evaluation, entrant.front_end, Augmentation(), None, device)
    student = entrant.student.to(device)

    def inputs() -> Iterator[Tensor]:
        for inputs_BCFT in feed.batches(np.arange(len(evaluation))):
            yield inputs_BCFT
            on_clips(len(inputs_BCFT))

    logits_NK = predict(student, student, inputs())
    buffer = io.BytesIO()
    np.save(buffer, logits_NK)
    store.write_object(name, buffer.getbuffer())
    return logits_NK
