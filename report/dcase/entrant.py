"""A student as it is handed in, and what it says of clips.

Dimensions: N clips, K classes, C channels, F mel bands, T frames.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from audio.clips import Corpus
from audio.feed import Feed
from audio.log_mel import FrontEnd
from audio.views import Augmentation
from logit_store import LogitKey, LogitStore, fingerprint
from report.dcase.meta import SubmissionError
from students import build, export, onnx_file, runtime, stored
from students.complexity import Complexity, Precision, measure
from students.quantise import CALIBRATION_CLIPS
from students.runtime import ExportedStudent
from students.stored import StoredStudent
from training import predict

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False, slots=True)
class Entrant:
    """A student at the precision in which it is handed in."""

    key: LogitKey
    student: nn.Module
    """From log-mels [B, C, F, T] to logits [B, K]."""
    front_end: FrontEnd
    complexity: Complexity
    """Of the student as it was built, whatever the precision."""
    parameter_bytes: int
    """In int8 those of its file, with biases in int32 and all steps; else parameters times bits."""
    identity: str
    """Stands for all that its logits follow from, but for the clips."""


def load(store: LogitStore, key: LogitKey, corpus: Corpus, precision: Precision) -> Entrant:
    """A student out of the store, its weights rounded to a precision.

    In float16 and float32 it computes in torch, in float32. In int8 it is its ONNX file on ONNX
    Runtime; if it has not learnt in int8, clips of the fold fit set its ranges, and are decoded now
    if this machine has not yet.

    Args:
        store: Has its weights and its record.
        key: Of its logits.
        corpus: That it learnt.
        precision: Of its weights.

    Raises:
        NoStudent: It was not taught here.
        SubmissionError: The test clips judged it when it was taught, or it learnt in int8 and another
            precision is asked for.
        LogitStoreError: It is not there, or its weights are not.
    """
    taken = stored.load(store, key, len(corpus.scenes))
    record = store.record(key)
    _check(key, record["protocol"], taken, precision)
    front_end, recipe = taken.front_end, record["recipe"]
    # Counted before any norm becomes part of a convolution, as the challenge does.
    as_built = build(recipe["model"], n_classes=len(corpus.scenes), **recipe["arguments"])
    shape = front_end.shape(round(corpus.clip_duration_s * front_end.sample_rate))
    complexity = measure(as_built, (1, *shape))
    identity = {"weights": record["weights_sha256"], "precision": precision}
    if precision == "int8":
        identity |= {"calibration_clips": CALIBRATION_CLIPS}
        student, n_bytes = _in_int8(taken, corpus)
    else:
        student, n_bytes = taken.student, complexity.parameter_bytes(precision)
        if precision == "fp16":
            student.half().float()
    return Entrant(key, student, front_end, complexity, n_bytes, fingerprint(identity))


def _check(key: LogitKey, protocol: str, taken: StoredStudent, precision: Precision) -> None:
    if protocol != "honest":
        raise SubmissionError(
            f"{key} was taught with protocol {protocol}, expected honest: the test clips, whose "
            "results a submission tells, have judged it"
        )
    if taken.learnt_in_int8 and precision != "int8":
        raise SubmissionError(
            f"{key} learnt in int8 and is exact there only: choose --precision int8, or the student "
            "that it was before"
        )


def _in_int8(taken: StoredStudent, corpus: Corpus) -> tuple[nn.Module, int]:
    """The student in its int8 file, and the bytes of all numbers in there."""
    feed = Feed.open(corpus, taken.front_end, Augmentation(), None, CPU)
    model = export.onnx_student(taken, feed, "onnx-int8")
    facts = export.facts(taken, corpus, "onnx-int8") | {"takes_waveforms": False}
    exported = runtime.load(onnx_file.labelled(model, facts))
    return _OnItsRuntime(exported), onnx_file.parameter_bytes(model)


class _OnItsRuntime(nn.Module):
    def __init__(self, exported: ExportedStudent) -> None:
        super().__init__()
        self.exported = exported

    def forward(self, inputs_BCFT: Tensor) -> Tensor:
        return torch.from_numpy(self.exported.logits(inputs_BCFT.cpu().numpy()))


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
    everything = np.arange(len(evaluation))
    return _kept(entrant, "evaluation", evaluation, everything, store, device, on_clips)


def development_logits(
    entrant: Entrant,
    corpus: Corpus,
    store: LogitStore,
    device: torch.device,
    on_clips: Callable[[int], None] = lambda n: None,
) -> np.ndarray:
    """Logits of the test clips of the development set, float32 [N, K].

    Not those that are in the store as a member's: they are of weights that were not rounded yet.

    Args:
        entrant: Who predicts.
        corpus: The development set; decoded now if this machine has not yet.
        store: Where the logits are kept, as `evaluation_logits` are.
        device: Where to predict.
        on_clips: Called with the number of clips in each batch that is done.
    """
    rows_N = corpus.rows(entrant.key.split, "test")
    return _kept(entrant, "test", corpus, rows_N, store, device, on_clips)


def _kept(
    entrant: Entrant,
    what: str,
    corpus: Corpus,
    rows_N: np.ndarray,
    store: LogitStore,
    device: torch.device,
    on_clips: Callable[[int], None],
) -> np.ndarray:
    """Logits of some clips: predicted once."""
    clips = corpus.identity()[:12]
    name = f"students/v1/{entrant.key.member}/{what}-{clips}-{entrant.identity}.npy"
    if store.has_object(name):
        on_clips(len(rows_N))
        return np.load(io.BytesIO(store.read_object(name)), allow_pickle=False)
    feed = Feed.open(corpus, entrant.front_end, Augmentation(), None, device)
    student = entrant.student.to(device)

    def inputs() -> Iterator[Tensor]:
        for inputs_BCFT in feed.batches(rows_N):
            yield inputs_BCFT
            on_clips(len(inputs_BCFT))

    logits_NK = predict(student, student, inputs())
    buffer = io.BytesIO()
    np.save(buffer, logits_NK)
    store.write_object(name, buffer.getbuffer())
    return logits_NK
