"""Impulse responses of recording devices, from files or synthetic (R responses of L samples)."""

import contextlib
import functools
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio.errors import UnfitSound
from audio.sound_folders import check_name, check_regular, list_sound_files

_SUFFIXES = (".wav", ".flac")
_DURATION_S = 0.05
_MIN_SAMPLE_RATE = 8_000
_SEED = 20_230_507


def load_responses(folder: Path | str, sample_rate: int) -> NDArray[np.float32]:
    """Read all .wav and .flac files of a folder but hidden ones, in the order of their names.

    Each is resampled from its own rate (soxr HQ) and padded with zeros to the longest. Levels stay
    as recorded.

    Returns:
        float32 [R, L] at `sample_rate`.

    Raises:
        FileNotFoundError: There is no such folder, or no such file in it.
        UnfitName: A file's name is not UTF-8.
        UnfitSound: A file is broken, empty, silent, not mono or not finite.
    """
    return _pad_and_stack([_read(file, sample_rate) for file in list_responses(Path(folder))])


def synthesise_responses(sample_rate: int, count: int = 64) -> NDArray[np.float32]:
    """Compute a fixed set of 50 ms responses like those of small microphones.

    Response r is a second-order high-pass (60...400 Hz) and low-pass (4...14 kHz) with two to four
    peaks or dips (200 Hz...10 kHz, up to 9 dB, Q 0.7...4), scaled so that pink noise keeps its
    level. It depends only on r: another sample rate gives the same microphone, and a larger set
    the same response.

    Returns:
        float32 [count, L], the same on every machine.

    Raises:
        ValueError: The sample rate is below 8 kHz, or `count` below 1.
    """
    if sample_rate < _MIN_SAMPLE_RATE:
        raise ValueError(f"sample_rate={sample_rate}, expected at least {_MIN_SAMPLE_RATE} Hz")
    if count < 1:
        raise ValueError(f"count={count}, expected at least 1 response")
    return np.stack([_synthesise_microphone(sample_rate, number) for number in range(count)])


def identify_responses(folder: Path | None) -> str:
    """Return what represents a set of responses in a fingerprint: a digest of the folder's files.

    For None, the synthetic set, it is a name with the seed.
    """
    if folder is None:
        return f"synthetic-{_SEED}"
    return _digest(folder)


@functools.lru_cache(maxsize=8)
def _digest(folder: Path) -> str:
    # Every run of a plan needs it, and it reads every file.
    digest = hashlib.sha256()
    for file in list_responses(folder):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def list_responses(folder: Path) -> list[Path]:
    """Return the files of a folder of impulse responses, in the order of their names.

    Raises:
        FileNotFoundError, UnfitName, UnfitSound: as for `load_responses`; no file is read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of impulse responses")
    files = list_sound_files(folder, _SUFFIXES)
    if not files:
        raise FileNotFoundError(f"{folder}: no impulse responses, expected .wav or .flac files")
    for file in files:
        check_name(file)
        with _naming(file):
            check_regular(file)
    return files


def _read(file: Path, sample_rate: int) -> NDArray[np.float32]:
    import soxr

    from audio.sound_files import read_sound

    with _naming(file):
        samples, own_rate = read_sound(file)
        if samples.shape[1] != 1:
            raise UnfitSound(f"{samples.shape[1]} channels, expected mono; split the channels")
        if not np.isfinite(samples).all():
            raise UnfitSound("holds samples that are not finite; replace it")
        if not samples.any():
            raise UnfitSound(f"{len(samples)} samples and no sound; replace or remove it")
    return soxr.resample(samples[:, 0], own_rate, sample_rate, quality="HQ")


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Put the file's name before the errors about its sound."""
    try:
        yield
    except UnfitSound as error:
        raise UnfitSound(f"{file}: {error}") from error


def _pad_and_stack(responses: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    stacked_RL = np.zeros((len(responses), max(map(len, responses))), np.float32)
    for row_L, response in zip(stacked_RL, responses, strict=True):
        row_L[: len(response)] = response
    return stacked_RL


def _synthesise_microphone(sample_rate: int, number: int) -> NDArray[np.float32]:
    # One generator per response, whose draws do not depend on the sample rate.
    generator = np.random.default_rng((_SEED, number))
    # Imported here: it takes a second, and most users of this module synthesise no response.
    from scipy.signal import sosfilt

    n_samples = round(_DURATION_S * sample_rate)
    impulse = np.zeros(n_samples)
    impulse[0] = 1.0
    filtered = np.asarray(sosfilt(_draw_sections(generator, sample_rate), impulse), np.float64)
    faded = filtered * _build_fade(n_samples)
    response = faded / _measure_pink_gain(faded, sample_rate)
    # Coarser than the differences between mathematics libraries, so equal bit for bit everywhere.
    return (np.round(response * 2**20) / 2**20).astype(np.float32)


def _draw_sections(generator: np.random.Generator, sample_rate: int) -> NDArray[np.float64]:
    from scipy.signal import butter

    highest_hz = 0.45 * sample_rate
    high_pass_hz = _draw_between(generator, 60.0, 400.0)
    low_pass_hz = min(_draw_between(generator, 4_000.0, 14_000.0), highest_hz)
    sections = [
        np.asarray(butter(2, high_pass_hz, "highpass", fs=sample_rate, output="sos")),
        np.asarray(butter(2, low_pass_hz, "lowpass", fs=sample_rate, output="sos")),
    ]
    for _ in range(2 + int(3 * generator.random())):
        centre_hz = _draw_between(generator, 200.0, 10_000.0)
        gain_db = 18.0 * generator.random() - 9.0
        quality = _draw_between(generator, 0.7, 4.0)
        if centre_hz < highest_hz:
            sections.append(_build_peak(centre_hz, gain_db, quality, sample_rate))
    return np.concatenate(sections)


def _draw_between(generator: np.random.Generator, low: float, high: float) -> float:
    """Draw a value that is uniform on a logarithmic axis."""
    return low * (high / low) ** generator.random()


def _build_peak(
    centre_hz: float, gain_db: float, quality: float, sample_rate: int
) -> NDArray[np.float64]:
    """Return the section of a peaking equaliser (R. Bristow-Johnson, Audio EQ Cookbook, peakingEQ)."""
    amplitude = 10 ** (gain_db / 40)
    omega = 2 * math.pi * centre_hz / sample_rate
    alpha, middle = math.sin(omega) / (2 * quality), -2 * math.cos(omega)
    zeros = (1 + alpha * amplitude, middle, 1 - alpha * amplitude)
    poles = (1 + alpha / amplitude, middle, 1 - alpha / amplitude)
    return np.array([zeros + poles]) / poles[0]


def _build_fade(n_samples: int) -> NDArray[np.float64]:
    """Return a window: 1 for three quarters, then half a cosine to 0, to avoid a click at the end."""
    n_faded = n_samples // 4
    falling = 0.5 + 0.5 * np.cos(np.pi * (np.arange(n_faded) + 1) / n_faded)
    return np.concatenate([np.ones(n_samples - n_faded), falling])


def _measure_pink_gain(response: NDArray[np.float64], sample_rate: int) -> float:
    """Return the gain of the response for pink noise between 50 Hz and 16 kHz, as a factor."""
    n_fft = sample_rate
    power = np.abs(np.fft.rfft(response, n_fft)) ** 2
    hertz = np.arange(len(power)) * (sample_rate / n_fft)
    audible = (hertz >= 50) & (hertz <= 16_000)
    pink = 1 / hertz[audible]
    return math.sqrt(float((power[audible] * pink).sum() / pink.sum()))
