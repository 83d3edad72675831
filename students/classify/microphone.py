"""Sound from the microphone of this machine, by the optional package sounddevice."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from audio.errors import UnfitSound
from students.classify.options import LIVE, PROGRAM
from students.classify.streams import BLOCK_S, Sound

_OTHER_WAY = f"or give - and record with {LIVE}"


def open_microphone() -> Sound:
    """Return the sound of the default microphone, at the rate that it prefers; it does not end.

    Raises:
        UnfitSound: sounddevice or its library is missing, or there is no microphone; also while it is heard,
            if it is lost.
    """
    sounddevice = _import_sounddevice()
    try:
        sample_rate = round(sounddevice.query_devices(kind="input")["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        raise _tell(error) from error
    return Sound(_record(sounddevice, sample_rate), sample_rate)


def _import_sounddevice() -> ModuleType:
    # A device that reads files or a pipe does without it.
    try:
        return importlib.import_module("sounddevice")
    except ModuleNotFoundError as error:
        raise UnfitSound(
            f"--microphone: {error.name} is missing: pip install sounddevice, {_OTHER_WAY}"
        ) from error
    except OSError as error:
        raise UnfitSound(
            f"--microphone: sounddevice finds no PortAudio ({error}): "
            f"apt install libportaudio2, {_OTHER_WAY}"
        ) from error


def _record(sounddevice: ModuleType, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield samples [S] of one channel."""
    n_samples = round(BLOCK_S * sample_rate)
    has_warned = False
    try:
        with sounddevice.InputStream(
            samplerate=sample_rate, channels=1, dtype="float32", blocksize=n_samples, latency="high"
        ) as stream:
            while True:
                samples, has_lost = stream.read(n_samples)
                if has_lost and not has_warned:
                    has_warned = True
                    sys.stderr.write(
                        f"{PROGRAM}: sound was lost, because a window takes longer than --hop: "
                        "give a longer one if results matter\n"
                    )
                yield samples[:, 0]
    except sounddevice.PortAudioError as error:
        raise _tell(error) from error


def _tell(error: Exception) -> UnfitSound:
    return UnfitSound(
        f"--microphone: {error}: plug in a microphone, choose it as the system's default, {_OTHER_WAY}"
    )
