"""Colours of recording devices: how their spectra differ from the reference device's on the same sound.

Source: the spectrum modulation of DSMN_dcase2023, whose published code asks scenes, and those of another
batch, where it means recording devices. Here a clip's own device decides. OURS: a spread-out part of
the pairs, and clips of `fit` alone. P pairs of clips, M of them measured, N clips, F mel bands, T frames.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio.clips import Corpus
from audio.errors import CorpusError

if TYPE_CHECKING:
    from torch import Tensor

MOST_PAIRS = 512
"""So many colours are measured at most, spread over all pairs: of TAU's 25 % there are 9,000."""
PAIRS_AT_A_TIME = 32
SMALLEST_POWER = 1e-10
"""Added to mel power before its logarithm, as in DSMN's front-end."""


@functools.lru_cache(maxsize=8)
def find_pairs(corpus: Corpus, split: int) -> NDArray[np.int64]:
    """Return the clips of `fit` that two devices recorded at once, as rows [P, 2]: reference device, other.

    Their names are equal but for the device at the end.

    Raises:
        CorpusError: there is no such pair, or no reference device; says what the corpus lacks.
    """
    if corpus.reference_device is None:
        raise CorpusError(
            f"corpus {corpus.name} in {corpus.root}: does not say which recording device is the reference, so the "
            "colours of the others cannot be measured: leave out the way modulated"
        )
    # Every run of a plan needs it, and TAU has 139,620 such clips.
    fit = corpus.rows(split, "fit")
    names, devices = corpus.column("clip_id")[fit], corpus.column("recording_device")[fit]
    sounds = [
        name.removesuffix(f"-{device}") if name.endswith(f"-{device}") else None
        for name, device in zip(names, devices, strict=True)
    ]
    reference = {
        sound: row
        for sound, row, device in zip(sounds, fit.tolist(), devices, strict=True)
        if sound is not None and device == corpus.reference_device
    }
    pairs = [
        (reference[sound], row)
        for sound, row, device in zip(sounds, fit.tolist(), devices, strict=True)
        if device != corpus.reference_device and sound in reference
    ]
    if not pairs:
        raise CorpusError(
            f"corpus {corpus.name} in {corpus.root}, split {split}: no sound of fit was recorded by device "
            f"{corpus.reference_device} and by another one at once (names that differ in the device at their "
            "end), so the colours of devices cannot be measured: leave out the way modulated"
        )
    return np.array(pairs, dtype=np.int64)


def measure_colours(
    corpus: Corpus, split: int, make_power: Callable[[NDArray[np.int64]], "Tensor"]
) -> "Tensor":
    """Return the differences of mean log10 spectra, of the other device minus the reference device, [M, F].

    Args:
        corpus: the corpus.
        split: 5, 10, 25, 50 or 100.
        make_power: from rows to the mel power of the untouched clips, [B, F, T].

    Raises:
        CorpusError: as for `find_pairs`.
    """
    # It takes seconds to import, and plans only look for pairs.
    import torch

    pairs_P2 = find_pairs(corpus, split)
    spread = np.linspace(0, len(pairs_P2) - 1, min(MOST_PAIRS, len(pairs_P2))).astype(np.int64)
    pairs_M2 = pairs_P2[spread]
    parts = [
        _measure_mean(make_power(pairs[:, 1])) - _measure_mean(make_power(pairs[:, 0]))
        for pairs in np.array_split(pairs_M2, -(-len(pairs_M2) // PAIRS_AT_A_TIME))
    ]
    return torch.cat(parts)


def _measure_mean(power_BFT: "Tensor") -> "Tensor":
    return (power_BFT + SMALLEST_POWER).log10().mean(dim=2)
