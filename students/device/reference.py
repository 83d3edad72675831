"""The clips that a student is judged and compared on, and what its reference says of them.

Dimensions: N clips, S samples of a clip, C channels, F mel bands, T frames, K classes.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio import corpora, waveforms
from audio.clips import Corpus
from audio.decoding import FULL_SCALE
from audio.front_ends import FrontEnd
from students.device.options import DeviceOptions, UnfitDevice
from students.runtime import ExportedStudent, load_exported

REFERENCE = "student.onnx"
_HEADER = "student.h"
_TITLE = re.compile(r"/\* (\S+) in C: ")
"""How the header begins: with the student's name in its store."""
_WAY_OUT = "export the student again: python -m students.export --form c"


@dataclass(frozen=True, slots=True)
class Reference:
    """A folder's student in ONNX Runtime, with what its metadata says of its training."""

    student: ExportedStudent
    corpus: str
    split: int
    front_end: FrontEnd


@dataclass(frozen=True, eq=False, slots=True)
class DeviceClips:
    """The clips of the folds select and test that a student hears, in this order."""

    inputs: list[bytes]
    """What the program takes of each: int16 [S], or float32 [C, F, T], little-endian."""
    reference_NK: np.ndarray
    """Logits of the reference, float32."""
    select_truth_J: np.ndarray
    """Labels of the first J clips, those of the fold select: [J], or of several labels a clip [J, K]."""


def load_reference(folder: Path) -> Reference:
    """Load the reference of a student's folder.

    Raises:
        UnfitDevice: it is not there, or another student than the folder's.
        UnfitModel: it is no exported student.
    """
    file = folder / REFERENCE
    if not file.exists():
        raise UnfitDevice(
            f"{file}: is missing, and is what the student is compared with: {_WAY_OUT}"
        )
    student = load_exported(file)
    metadata = student.session.get_modelmeta().custom_metadata_map
    try:
        corpus, split, front_end, member = (
            json.loads(metadata[name]) for name in ("corpus", "split", "front_end", "member")
        )
        reference = Reference(student, corpus, split, FrontEnd(**front_end))
    except (KeyError, TypeError, ValueError) as error:
        raise UnfitDevice(f"{file}: its metadata is damaged ({error}): {_WAY_OUT}") from error
    header = folder / _HEADER
    if not header.exists():
        raise UnfitDevice(f"{header}: is missing: {_WAY_OUT}")
    named = _TITLE.match(header.read_text())
    if named is None or named[1] != member:
        raise UnfitDevice(
            f"{file}: is {member}, and {header.name} is of {named[1] if named else 'no student'}: {_WAY_OUT}"
        )
    has_front_end = re.search(r"^#define STUDENT_HAS_FRONT_END\b", header.read_text(), re.MULTILINE)
    if (has_front_end is not None) != student.takes_waveforms:
        raise UnfitDevice(
            f"{file} and {header.name}: only one of them has a front-end, so they are not one student: "
            f"{_WAY_OUT}"
        )
    return reference


def load_clips(
    options: DeviceOptions, reference: Reference, on_heard: Callable[[int, int], None]
) -> DeviceClips:
    """Load clips of a student's own corpus and split, and let the reference hear them.

    Raises:
        UnfitDevice: the corpus is not the one that the student was trained on, or none of so few clips has a
            class.
        CorpusError, BrokenAudio: the corpus cannot be read.
    """
    corpus = corpora.read(options.corpus, options.root)
    several = corpus.has_several_labels
    if (corpus.name, corpus.scenes) != (reference.corpus, reference.student.classes):
        raise UnfitDevice(
            f"{options.student}: a student of corpus {reference.corpus} with the classes "
            f"{', '.join(reference.student.classes)}, and --corpus is {corpus.name} with "
            f"{', '.join(corpus.scenes)}: name its own"
        )
    select, test = (
        _choose_evenly(corpus.rows(reference.split, fold), options.clips)
        for fold in ("select", "test")
    )
    truth_J = corpus.truth()[select]
    if several != reference.student.has_several_labels:
        raise UnfitDevice(
            f"{options.student}: clips of corpus {corpus.name} have "
            f"{'several labels or none' if several else 'one label each'}, which is not so of the corpus that "
            f"the student learnt: {_WAY_OUT}"
        )
    if several and not truth_J.any():
        raise UnfitDevice(
            f"--clips {options.clips}: none of the chosen clips of the fold select has a class, so there is no "
            "mAP: take more"
        )
    rows_N = np.concatenate([select, test])
    inputs_N = _load_inputs(corpus, reference, rows_N)
    logits = []
    # One by one, as a device hears them.
    for index, clip in enumerate(inputs_N, start=1):
        heard = clip.astype(np.float32) / FULL_SCALE if clip.dtype == np.int16 else clip
        logits.append(reference.student.compute_logits(heard[None])[0])
        on_heard(index, len(rows_N))
    return DeviceClips([clip.tobytes() for clip in inputs_N], np.stack(logits), truth_J)


def _choose_evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many rows, from all of a fold: a corpus may be in the order of its classes."""
    if len(rows) <= most:
        return rows
    return rows[np.arange(most) * len(rows) // most]


def _load_inputs(corpus: Corpus, reference: Reference, rows_N: np.ndarray) -> np.ndarray:
    """Return int16 samples [N, S], or float32 log-mels [N, C, F, T]."""
    if reference.student.takes_waveforms:
        return waveforms.load_waveforms(corpus, reference.student.sample_rate).samples_NS[rows_N]
    # Imported here: a student with its front-end needs no torch.
    import torch

    from audio.feed import Feed
    from audio.views import Augmentation

    feed = Feed.open(corpus, reference.front_end, Augmentation(), None, torch.device("cpu"))
    return np.concatenate([batch.numpy() for batch in feed.iterate_batches(rows_N)])
