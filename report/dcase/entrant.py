"""A student as it is submitted, and its logits of clips.

Dimensions: N clips, K classes, C channels, F mel bands, T frames.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from audio.clips import Corpus
from audio.feed import Feed
from audio.front_ends import FrontEnd
from audio.pools import REST
from audio.views import Augmentation
from disk.tail import has_right_tail, make_tail
from logit_store import LogitKey, LogitStore, fingerprint
from report.dcase.meta import SubmissionError
from students import build, runtime, stored
from students.branches import fold_branches
from students.complexity import Complexity, Precision, measure_complexity
from students.export import onnx_file
from students.export.convert import collect_facts, convert_to_onnx
from students.pools import list_pool_parts
from students.recipe import CALIBRATION_CLIPS
from students.runtime import ExportedStudent
from students.stored import StoredStudent
from training import predict

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False, slots=True)
class Entrant:
    """A student at the precision in which it is submitted."""

    key: LogitKey
    student: nn.Module
    """From log-mels [B, C, F, T] to logits [B, K]."""
    front_end: FrontEnd
    complexity: Complexity
    """The complexity of the student as built, whatever the precision."""
    parameter_bytes: int
    """Parameters times bits, as the challenge counts."""
    file_bytes: int | None
    """Bytes of all numbers in its int8 file, with int32 biases and all steps; None if no file predicts."""
    identity: str
    """A fingerprint of all that its logits depend on, except the clips."""
    pools: tuple[str, ...] = ()
    """Names of the pools and corpora that taught it, which are no clips of the development set."""


def load_entrant(store: LogitStore, key: LogitKey, corpus: Corpus, precision: Precision) -> Entrant:
    """Load a student from the store, with its weights rounded to a precision.

    In float16 and float32, it computes in torch in float32. In int8, its ONNX file runs on ONNX
    Runtime; if it was not fine-tuned in int8, clips of the fold fit set its ranges, which are
    decoded if this machine has not decoded them yet.

    Args:
        store: The store with its weights and its record.
        key: The key of its logits.
        corpus: The corpus that it was trained on.
        precision: The precision of its weights.

    Raises:
        NoStudent: The member was not trained here.
        SubmissionError: Test clips judged it during training, or it was fine-tuned in int8 and the
            precision is another one, or it or a teacher of it learnt from training clips that its split
            leaves out.
        LogitStoreError: It is not in the store, or its weights or teachers are not.
    """
    loaded = stored.load_student(store, key, len(corpus.scenes))
    record = store.read_record(key)
    _check_entrant(key, record["protocol"], loaded, precision)
    pools = find_external_data(store, key)
    front_end, recipe = loaded.front_end, record["recipe"]
    # As in the challenge, counted with branches folded, but before norms are folded into convolutions.
    as_built = build(recipe["model"], n_classes=len(corpus.scenes), **recipe["arguments"])
    shape = front_end.compute_shape(round(corpus.clip_duration_s * front_end.sample_rate))
    complexity = measure_complexity(as_built, (1, *shape))
    identity = {"weights": record["weights_sha256"], "precision": precision}
    if precision == "int8":
        identity |= {"calibration_clips": CALIBRATION_CLIPS}
        student, file_bytes = _convert_to_int8(loaded, corpus)
    else:
        student, file_bytes = fold_branches(loaded.student), None
        if precision == "fp16":
            student.half().float()
    return Entrant(
        key,
        student,
        front_end,
        complexity,
        complexity.parameter_bytes(precision),
        file_bytes,
        fingerprint(identity),
        pools,
    )


def _check_entrant(
    key: LogitKey, protocol: str, loaded: StoredStudent, precision: Precision
) -> None:
    if protocol != "honest":
        raise SubmissionError(
            f"{key} was trained with protocol {protocol}, expected honest: the test clips, whose "
            "scores a submission states, have judged it"
        )
    if loaded.tuned_in_int8 and precision != "int8":
        raise SubmissionError(
            f"{key} was fine-tuned in int8 and is exact only in int8: choose --precision int8, or "
            "the student that it was made from"
        )


def find_external_data(store: LogitStore, key: LogitKey) -> tuple[str, ...]:
    """Return the names of the pools and first corpora that a student, or students that taught it, learnt from.

    Source: rules of DCASE 2024 and 2025 task 1: of the development set a system may use only the clips of its
    split, also without their labels; external data must be declared.

    Raises:
        SubmissionError: a pool is what the split leaves out.
    """
    names: dict[str, None] = {}
    for learner in _list_learners(store, key):
        parts = list_pool_parts(store.read_record(learner))
        found = [pool["name"] for part in parts for pool in part["pools"]]
        if REST in found:
            way = "" if learner == key else f"was taught by {learner.member}, which "
            raise SubmissionError(
                f"{key} {way}learnt from the pool {REST}, the training clips that split {key.split} leaves "
                "out: the rules allow the clips of the split only, with or without labels; choose a "
                "student without this pool"
            )
        names |= dict.fromkeys(found)
        if first_corpus := store.read_record(learner).get("first_corpus"):
            names[first_corpus] = None
    return tuple(names)


def _list_learners(store: LogitStore, key: LogitKey) -> list[LogitKey]:
    """Return a student and all members that taught it, directly or through others."""
    found, waiting = dict[LogitKey, None](), [key]
    while waiting:
        learner = waiting.pop()
        if learner in found:
            continue
        found[learner] = None
        taught_by = store.read_record(learner).get("ensemble")
        if taught_by is not None and "@" in taught_by:
            waiting += store.ensembles.read_weights(key.corpus, key.split, taught_by)
        elif taught_by is not None:
            waiting.append(replace(key, member=taught_by))
    return list(found)


def _convert_to_int8(loaded: StoredStudent, corpus: Corpus) -> tuple[nn.Module, int]:
    """Return the student as its int8 file computes, and the size of all numbers in the file."""
    feed = Feed.open(corpus, loaded.front_end, Augmentation(), None, CPU)
    model = convert_to_onnx(loaded, feed, "onnx-int8")
    facts = collect_facts(loaded, corpus, "onnx-int8") | {"takes_waveforms": False}
    exported = runtime.load_exported(onnx_file.serialise(model, facts))
    return _OnnxStudent(exported), onnx_file.count_parameter_bytes(model)


class _OnnxStudent(nn.Module):
    def __init__(self, exported: ExportedStudent) -> None:
        super().__init__()
        self.exported = exported

    def forward(self, inputs_BCFT: Tensor) -> Tensor:
        return torch.from_numpy(self.exported.compute_logits(inputs_BCFT.cpu().numpy()))


def predict_evaluation_clips(
    entrant: Entrant,
    evaluation: Corpus,
    store: LogitStore,
    device: torch.device,
    on_clips: Callable[[int], None] = lambda n: None,
) -> np.ndarray:
    """Predict the logits of all clips of the evaluation set, float32 [N, K].

    They are kept beside the student's weights, and read from there by later calls.

    Args:
        entrant: The student that predicts.
        evaluation: The clips, which are decoded if this machine has not decoded them yet.
        store: The store that keeps the logits.
        device: The device to predict on.
        on_clips: Called with the number of clips in each batch that is done.
    """
    everything = np.arange(len(evaluation))
    return predict_once(entrant, "evaluation", evaluation, everything, store, device, on_clips)


def predict_test_clips(
    entrant: Entrant,
    corpus: Corpus,
    store: LogitStore,
    device: torch.device,
    on_clips: Callable[[int], None] = lambda n: None,
) -> np.ndarray:
    """Predict the logits of the test clips of the development set, float32 [N, K].

    The member's logits in the store are others: they are from weights that are not rounded.

    Args:
        entrant: The student that predicts.
        corpus: The development set, decoded if this machine has not decoded it yet.
        store: The store that keeps the logits, as those of `predict_evaluation_clips`.
        device: The device to predict on.
        on_clips: Called with the number of clips in each batch that is done.
    """
    rows_N = corpus.rows(entrant.key.split, "test")
    return predict_once(entrant, "test", corpus, rows_N, store, device, on_clips)


def predict_once(
    entrant: Entrant,
    what: str,
    corpus: Corpus,
    rows_N: np.ndarray,
    store: LogitStore,
    device: torch.device,
    on_clips: Callable[[int], None] = lambda n: None,
) -> np.ndarray:
    """Predict logits of some clips, float32 [N, K], or read them from the store.

    Args:
        entrant: The network that predicts.
        what: What the clips are, for the name of what is kept.
        corpus: Whose clips they are.
        rows_N: Their rows.
        store: The store that keeps the logits.
        device: The device to predict on.
        on_clips: Called with the number of clips in each batch that is done.
    """
    clips = corpus.compute_identity()[:12]
    name = f"students/v1/{entrant.key.member}/{what}-{clips}-{entrant.identity}.npy"
    stored_NK = read_predicted(store, name)
    if stored_NK is not None:
        on_clips(len(rows_N))
        return stored_NK
    feed = Feed.open(corpus, entrant.front_end, Augmentation(), None, device)
    student = entrant.student.to(device)

    def read_inputs() -> Iterator[Tensor]:
        for inputs_BCFT in feed.iterate_batches(rows_N):
            yield inputs_BCFT
            on_clips(len(inputs_BCFT))

    logits_NK = predict(student, student, read_inputs())
    write_predicted(store, name, logits_NK)
    return logits_NK


def write_predicted(store: LogitStore, name: str, logits_NK: np.ndarray) -> None:
    """Store logits that were predicted, with a digest of them."""
    buffer = io.BytesIO()
    np.save(buffer, logits_NK)
    with buffer.getbuffer() as written:
        tail = make_tail(written)
    buffer.write(tail)
    store.objects.write(name, buffer.getbuffer())


def read_predicted(store: LogitStore, name: str) -> np.ndarray | None:
    """Read logits that were predicted before; None if there are none, or damaged ones."""
    if name not in store.objects:
        return None
    content = store.objects.read(name)
    if has_right_tail(content) is not False:
        with contextlib.suppress(ValueError, EOFError):
            return np.load(io.BytesIO(content), allow_pickle=False)
    logger.warning("%s: damaged, so it is predicted again", store.objects.locate(name))
    return None
