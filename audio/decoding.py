"""Decode one audio file, or a part of it, into a clip of S samples."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio.lengths import TOLERANCE

FULL_SCALE = 32768
"""The int16 value that stands for 1.0; it is one more than int16 holds."""


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """A decoded clip."""

    samples_S: np.ndarray
    """int16 [S]"""
    is_mixed_down: bool
    """Whether the file has several channels; the clip is their mean."""
    is_saturated: bool
    """Whether samples were beyond full scale; they are limited to it."""


def decode_file(
    file: Path, sample_rate: int, duration_s: float, start_s: float | None = None
) -> DecodedClip:
    """Decode one clip.

    Args:
        file: The file that contains the clip.
        sample_rate: Sample rate of the clip in Hz.
        duration_s: Duration of the clip.
        start_s: Where in the file the clip begins; a file that is too short is repeated. None means
            that the file is the clip and must have its duration.

    Raises:
        UnfitSound: The file cannot be read as sound, or its header is wrong.
        ValueError: It has no samples, another duration, or samples that are not finite.
        OSError: The file cannot be opened.
    """
    from audio.sound_files import read_sound

    samples, file_rate = read_sound(file, start_s, duration_s)
    _check_samples(samples)
    expected = round(duration_s * file_rate)
    is_short = expected - len(samples) > TOLERANCE * expected
    if start_s is None and (is_short or len(samples) - expected > TOLERANCE * expected):
        found_s = len(samples) / file_rate
        raise ValueError(f"lasts {found_s:.3f} s, expected {duration_s:.3f} s")
    mono = samples.mean(axis=1)
    if file_rate != sample_rate:
        import soxr

        mono = soxr.resample(mono, file_rate, sample_rate, quality="HQ")
    clip = np.zeros(round(duration_s * sample_rate), dtype=np.float32)
    if is_short:
        mono = np.resize(mono, len(clip))  # repeats the samples
    clip[: len(mono)] = mono[: len(clip)]
    scaled = np.rint(clip * FULL_SCALE)
    # One step beyond is the rounding of a file that just fills its range.
    is_saturated = bool((np.abs(scaled) > FULL_SCALE + 1).any())
    samples_S = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return DecodedClip(samples_S, samples.shape[1] > 1, is_saturated)


def _check_samples(samples: np.ndarray) -> None:
    if len(samples) == 0:
        raise ValueError("holds no samples")
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=1))
    if len(bad):
        raise ValueError(f"sample {bad[0]} is {samples[bad[0]].tolist()}, expected finite numbers")
