"""The recording devices that a student can have a network for, known before it is trained."""

import numpy as np

from audio.clips import UNKNOWN, Corpus
from audio.errors import CorpusError

LEAST_CLIPS = 2
"""Batch normalisation cannot learn from one clip."""


def find_known_devices(corpus: Corpus, split: int) -> tuple[str, ...]:
    """Return the recording devices with at least LEAST_CLIPS clips in the fold fit of a split, sorted.

    Raises:
        CorpusError: there are fewer than two of them, so that no device has clips of its own.
    """
    devices = corpus.column("recording_device")[corpus.rows(split, "fit")].astype(str)
    names, counts = np.unique(devices, return_counts=True)
    known = [
        str(name)
        for name, count in zip(names, counts, strict=True)
        if count >= LEAST_CLIPS and name != UNKNOWN
    ]
    if len(known) < 2:
        raise CorpusError(
            f"corpus {corpus.name} in {corpus.root}: the fit clips of split {split} have the known recording "
            f"devices {', '.join(known) or 'none'} ({LEAST_CLIPS} clips at least), expected two or more: "
            "without them a network per device is the general one"
        )
    return tuple(known)
