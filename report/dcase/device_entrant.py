"""A student as it is submitted in 2025: a network per known recording device, and one for all others.

Dimensions: N clips of a split's test fold or of the evaluation set, K classes.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from audio.clips import Corpus
from logit_store import LogitKey, LogitStore, fingerprint
from report.dcase.entrant import Entrant, find_external_data, predict_once
from report.dcase.meta import SubmissionError
from students.branches import fold_branches
from students.complexity import Complexity, Precision, measure_complexity
from students.per_device import DeviceStudents, load_device_students
from students.student import Student


@dataclass(frozen=True, eq=False, slots=True)
class DeviceEntrant:
    """A student at the precision in which it is submitted."""

    students: DeviceStudents
    """As it was trained."""
    recipe: Mapping[str, Any]
    """Of its record: `model` and `arguments`."""
    general: Entrant
    by_device: Mapping[str, Entrant]
    """The network for each known recording device; none if one network is for all."""
    complexity: Complexity
    """Of each of the networks."""
    precision: Precision

    @property
    def key(self) -> LogitKey:
        """The key of its logits."""
        return self.students.key

    @property
    def parameter_bytes(self) -> int:
        """Bytes of the parameters of one network."""
        return self.complexity.parameter_bytes(self.precision)

    def predict(
        self,
        what: str,
        corpus: Corpus,
        rows_N: np.ndarray,
        store: LogitStore,
        device: torch.device,
        on_clips: Callable[[int], None] = lambda n: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits by the network of each clip's device, and those of the general network.

        Both are float32 [N, K], kept beside the students' weights, and read from there by later calls.

        Args:
            what: What the clips are, for the names of what is kept.
            corpus: Whose clips these are, with their recording devices.
            rows_N: Rows of the clips.
            store: The store that keeps the logits.
            device: The device to predict on.
            on_clips: Called with the number of clips in each batch that the general network has done.
        """
        general_NK = predict_once(self.general, what, corpus, rows_N, store, device, on_clips)
        specific_NK, devices_N = general_NK.copy(), corpus.column("recording_device")[rows_N]
        for name, entrant in self.by_device.items():
            own = np.flatnonzero(devices_N == name)
            if len(own):
                specific_NK[own] = predict_once(
                    entrant, f"{what}-{name}", corpus, rows_N[own], store, device
                )
        return specific_NK, general_NK


def load_device_entrant(
    store: LogitStore, key: LogitKey, corpus: Corpus, precision: Precision
) -> DeviceEntrant:
    """Load a student and its networks from the store, with their weights rounded to a precision.

    Args:
        store: The store with its record and its weights.
        key: The key of its logits: of a student with a network per recording device, or of any other.
        corpus: The corpus that it was trained on.
        precision: fp16 or fp32.

    Raises:
        NoStudent: The member was not trained here, or was fine-tuned in int8.
        SubmissionError: Test clips judged it, the precision is int8, or it or a teacher of it learnt from
            training clips that its split leaves out.
        LogitStoreError: It is not in the store, or its weights or teachers are not.
    """
    if precision == "int8":
        raise SubmissionError(
            f"{key} at int8: the organisers' script counts the bytes of torch's parameters, and has no rule "
            "for what int8 needs besides; choose --precision fp16"
        )
    record = store.read_record(key)
    if record.get("protocol") != "honest":
        raise SubmissionError(
            f"{key} was trained with protocol {record.get('protocol')}, expected honest: the test clips, "
            "whose scores a submission states, have judged it"
        )
    students = load_device_students(store, key, len(corpus.scenes))
    external = find_external_data(store, key)
    shape = students.front_end.compute_shape(
        round(corpus.clip_duration_s * students.front_end.sample_rate)
    )
    complexity = measure_complexity(students.general, (1, *shape))
    parts = record.get("parts", [])
    general = key if not parts else LogitKey(key.corpus, key.split, record["start"])

    def make_entrant(student: Student, weights_hash: str) -> Entrant:
        identity = fingerprint({"weights": weights_hash, "precision": precision})
        n_bytes = complexity.parameter_bytes(precision)
        network = round_network(student, precision)
        return Entrant(
            key, network, students.front_end, complexity, n_bytes, None, identity, external
        )

    by_device = {
        part["recording_device"]: make_entrant(
            students.by_device[part["recording_device"]], part["weights_sha256"]
        )
        for part in parts
    }
    whole = make_entrant(students.general, store.read_record(general)["weights_sha256"])
    return DeviceEntrant(students, record["recipe"], whole, by_device, complexity, precision)


def round_network(student: Student, precision: Precision) -> torch.nn.Module:
    """Return a network as the inference package computes: rounded, its products in float32."""
    network = copy.deepcopy(fold_branches(student)).eval()
    return network.half().float() if precision == "fp16" else network
