"""Sound as it arrives: the bytes of a stream become samples, and samples become windows.

Dimensions: S samples.
"""

import io
import math
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import soxr

from audio.containers import LEAST_UNKNOWN
from audio.errors import UnfitSound
from students.classify.options import CHANNELS, RATES_HZ

BLOCK_S = 0.1
QUALITY = "HQ"
"""Quality of soxr's resampling: the same as in decoding for training (`audio.decoding`)."""
_FULL_SCALE = 32768
_PCM, _EXTENSIBLE = 1, 0xFFFE


class Sound(NamedTuple):
    """Sound that goes on."""

    blocks: Iterable[np.ndarray]
    """Its samples, mixed down, float32 [S] each, within -1...1."""
    sample_rate: int
    """Their rate in Hz."""


def open_stream(stream: BinaryIO, sample_rate: int | None, channels: int) -> Sound:
    """Return the sound of a stream: raw PCM if its rate is given, and else WAV.

    Raises:
        UnfitSound: no WAV stream, or its samples are not 16-bit PCM.
    """
    n_bytes = None
    if sample_rate is None:
        sample_rate, channels, n_bytes = read_wav_header(stream)
    return Sound(read_pcm(stream, sample_rate, channels, n_bytes), sample_rate)


def cut_windows(
    sound: Sound, sample_rate: int, window_samples: int, hop_samples: int
) -> Iterator[np.ndarray]:
    """Yield windows [S] at a sample rate in Hz, each as soon as all of it is there.

    As of a file, a rest at the end is left out, and sound shorter than one window is followed by silence.
    """
    blocks = sound.blocks
    if sound.sample_rate != sample_rate:
        blocks = resample_blocks(blocks, sound.sample_rate, sample_rate)
    waiting_S = np.empty(0, dtype=np.float32)
    is_first = True
    for block_S in blocks:
        waiting_S = np.concatenate([waiting_S, block_S])
        start = 0
        while len(waiting_S) - start >= window_samples:
            is_first = False
            yield waiting_S[start : start + window_samples]
            start += hop_samples
        waiting_S = waiting_S[start:]
    if is_first and len(waiting_S):
        yield np.pad(waiting_S, (0, window_samples - len(waiting_S)))


def resample_blocks(
    blocks: Iterable[np.ndarray], from_rate: int, to_rate: int
) -> Iterator[np.ndarray]:
    """Yield the same sound at another rate, float32: equal to resampling all of it at once."""
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=QUALITY)
    for block_S in blocks:
        yield stream.resample_chunk(block_S)
    yield stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)


def read_pcm(
    stream: BinaryIO, sample_rate: int, channels: int, n_bytes: int | None = None
) -> Iterator[np.ndarray]:
    """Read 16-bit little-endian PCM as it arrives, mixed down, float32 [S] within -1...1.

    Args:
        stream: the samples.
        sample_rate: their rate in Hz.
        channels: number of channels.
        n_bytes: number of bytes of samples; None for all that come.
    """
    frame_bytes = 2 * channels
    block_bytes = max(1, round(BLOCK_S * sample_rate)) * frame_bytes
    left = math.inf if n_bytes is None else n_bytes
    while True:
        content = stream.read(int(min(block_bytes, left)))
        left -= len(content)
        whole = len(content) // frame_bytes * frame_bytes
        if not whole:
            return
        frames = np.frombuffer(content[:whole], dtype="<i2").reshape(-1, channels)
        yield frames.mean(axis=1, dtype=np.float32) / _FULL_SCALE


def read_wav_header(stream: BinaryIO) -> tuple[int, int, int | None]:
    """Read a WAV stream up to its samples.

    soundfile cannot do it: it seeks in its files.

    Returns:
        The sample rate in Hz, the number of channels, and the number of bytes of samples; None if the
        header does not say it.

    Raises:
        UnfitSound: not a WAV stream, or its samples are not 16-bit PCM.
    """
    riff, _, wave = _unpack(stream, "<4sI4s")
    if (riff, wave) != (b"RIFF", b"WAVE"):
        raise UnfitSound(
            "standard input is no WAV stream: give --sample-rate if it is raw 16-bit PCM"
        )
    sample_format = None
    while True:
        name, size = _unpack(stream, "<4sI")
        if name == b"data":
            break
        content = io.BytesIO(stream.read(size + size % 2))
        if name == b"fmt ":
            sample_format = _read_format(content)
    if sample_format is None:
        raise UnfitSound("the WAV stream has samples before its format")
    return *sample_format, size if 0 < size < LEAST_UNKNOWN else None


def _read_format(content: BinaryIO) -> tuple[int, int]:
    """Read the format of a WAV stream: sample rate in Hz and channels."""
    kind, channels, sample_rate, _, _, bits = _unpack(content, "<HHIIHH")
    if kind not in (_PCM, _EXTENSIBLE) or bits != 16 or not channels or not sample_rate:
        raise UnfitSound(
            f"the WAV stream has {channels} channel(s) of {bits} bits in format {kind} at "
            f"{sample_rate} Hz, expected 16-bit PCM"
        )
    check_range(sample_rate, RATES_HZ, "Hz")
    check_range(channels, CHANNELS, "channels")
    return sample_rate, channels


def check_range(number: int, low_high: tuple[int, int], unit: str) -> None:
    """Check a number of a header; UnfitSound says what was expected."""
    low, high = low_high
    if not low <= number <= high:
        raise UnfitSound(f"its header says {number:,} {unit}, expected {low:,} to {high:,}")


def _unpack(stream: BinaryIO, layout: str) -> tuple:
    content = stream.read(struct.calcsize(layout))
    if len(content) < struct.calcsize(layout):
        raise UnfitSound("standard input ends within its WAV header")
    return struct.unpack(layout, content)
