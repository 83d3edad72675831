"""Sound files as clips, or as one sound that goes on and on.

Dimensions: B clips, S samples.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

from audio.errors import UnfitSound
from audio.sound_files import read_header, read_sound
from audio.sound_folders import list_folder, walk_sound_files
from students.classify.options import RATES_HZ
from students.classify.streams import QUALITY, Sound, check_range

RAW = ".raw"
PART_S = 60.0
"""A long recording is read in parts: whole, one of a day would be gigabytes."""


def find_files(path: Path) -> list[Path]:
    """Return the file, or those in the folder; a folder without sound files stands for itself."""
    return sorted(walk_sound_files(path)) or [path]


def read_clips(file: Path, sample_rate: int, clip_samples: int) -> np.ndarray:
    """Read a file as clips, float32 [B, S]: mixed down, resampled, cut.

    A rest at the end that is shorter than a clip is left out; a file that is shorter than one clip
    is followed by silence.

    Raises:
        UnfitSound: a folder, raw samples, a file that cannot be read as audio or has a wrong header, no samples
            at all, or one that is not finite.
        OSError: the file cannot be opened.
    """
    _check_kind(file)
    samples, file_rate = read_sound(file)
    if not len(samples):
        raise UnfitSound("holds no samples")
    check_range(file_rate, RATES_HZ, "Hz")
    mono_S = _mix_down(samples)
    if file_rate != sample_rate:
        mono_S = soxr.resample(mono_S, file_rate, sample_rate, quality=QUALITY)
    n_clips = max(1, len(mono_S) // clip_samples)
    clips_S = np.zeros(n_clips * clip_samples, dtype=np.float32)
    clips_S[: len(mono_S)] = mono_S[: len(clips_S)]
    return clips_S.reshape(n_clips, clip_samples)


def open_recording(file: Path) -> Sound:
    """Open a file as a sound that goes on, of which only a part is in memory.

    Raises:
        UnfitSound: as `read_clips` does, but for no samples, and that also while the sound is heard.
        OSError: the file cannot be opened.
    """
    _check_kind(file)
    header = read_header(file)
    check_range(header.sample_rate, RATES_HZ, "Hz")
    return Sound(_read_parts(file, header.frames / header.sample_rate), header.sample_rate)


def _read_parts(file: Path, duration_s: float) -> Iterator[np.ndarray]:
    start_s = 0.0
    while start_s < duration_s:
        samples, _ = read_sound(file, start_s, PART_S)
        yield _mix_down(samples)
        start_s += PART_S


def _check_kind(file: Path) -> None:
    if file.is_dir():
        list_folder(file)  # it may be that it cannot be read
        raise UnfitSound("no sound file in this folder")
    if file.suffix.lower() == RAW:
        raise UnfitSound("raw samples have no sample rate: give - < FILE --sample-rate HZ")


def _mix_down(samples: np.ndarray) -> np.ndarray:
    """Return samples [S] of samples [S, C]."""
    if not np.isfinite(samples).all():
        raise UnfitSound("has samples that are not finite numbers")
    return samples.mean(axis=1)
