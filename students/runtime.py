"""Runs exported students on ONNX Runtime and measures their latency; needs no torch.

Dimensions: B clips in a batch, S samples of a clip, C channels, F mel bands, T frames, K classes.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

_FACTS = ("classes", "sample_rate", "clip_samples", "takes_waveforms")
SEVERAL = "has_several_labels"
"""Metadata of students whose clips may have several labels; others lack it."""
WARM_UP_RUNS = 5
TIMED_RUNS = 100


class UnfitModel(ValueError):
    """A file that is not an exported student, or not one that can be used here."""


@dataclass(frozen=True, eq=False, slots=True)
class ExportedStudent:
    """A student in ONNX Runtime, on one core, with the metadata of its file."""

    session: onnxruntime.InferenceSession
    classes: tuple[str, ...]
    """Classes of the logits, in order."""
    sample_rate: int
    """Sample rate of the waveforms, in Hz."""
    clip_samples: int
    """Number of samples of a clip."""
    takes_waveforms: bool
    """Whether the front-end is inside; without it, the student takes log-mels."""
    has_several_labels: bool = False
    """Whether a clip may have several labels, or none: logits are log odds of each class by itself."""

    def compute_logits(self, inputs: np.ndarray) -> np.ndarray:
        """Return logits, float32 [B, K], of waveforms [B, S] within -1...1, or of log-mels [B, C, F, T]."""
        name = self.session.get_inputs()[0].name
        return np.asarray(self.session.run(None, {name: inputs.astype(np.float32, copy=False)})[0])


def load_exported(model: Path | bytes) -> ExportedStudent:
    """Load an exported student, ready to run in one thread.

    Args:
        model: the file, or its content.

    Raises:
        UnfitModel: not a file that `python -m students.export` wrote.
        OSError: the file cannot be read.
    """
    name = str(model) if isinstance(model, Path) else "the model"
    content = model.read_bytes() if isinstance(model, Path) else model
    session = _open_session(name, content)
    way_out = "export it with python -m students.export"
    try:
        metadata = session.get_modelmeta().custom_metadata_map
        facts: dict[str, Any] = {each: json.loads(metadata[each]) for each in _FACTS}
        facts["classes"] = tuple(facts["classes"])
        facts[SEVERAL] = json.loads(metadata.get(SEVERAL, "false"))
        return ExportedStudent(session, **facts)
    except KeyError as error:
        raise UnfitModel(f"{name}: its metadata has no {error.args[0]}: {way_out}") from error
    except (TypeError, ValueError) as error:
        raise UnfitModel(f"{name}: its metadata is damaged ({error}): {way_out}") from error


def _open_session(name: str, content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # It would warn of every constant that its own optimiser has made superfluous.
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise UnfitModel(f"{name}: ONNX Runtime cannot load it: {error}") from error


def measure_latency(compute: Callable[[np.ndarray], np.ndarray], one_clip: np.ndarray) -> float:
    """Measure the seconds for one clip: the median of a hundred runs.

    Args:
        compute: from inputs to logits; with its front-end if that is to be counted.
        one_clip: a batch of one.
    """
    took_s = []
    for _ in range(WARM_UP_RUNS + TIMED_RUNS):
        started = time.perf_counter()
        compute(one_clip)
        took_s.append(time.perf_counter() - started)
    return float(np.median(took_s[WARM_UP_RUNS:]))
