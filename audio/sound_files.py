"""Read the samples of a sound file: all that are there, whatever its header says of their number.

Dimensions: S samples, C channels.

libsndfile reads no more than a header promises, and takes less for the end of the file. So what a
header promises is compared with what is there. An unknown length (0 samples in a FLAC file or 4 GiB in
a WAV file, from programs that write into a pipe) is no promise: all samples are read.
"""

import contextlib
import io
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from audio.containers import check_container
from audio.errors import UnfitSound
from audio.mp3_frames import Mp3Stream, skip_tag
from audio.sound_folders import check_regular

BLOCK_FRAMES = 2**16
_FLAC_UNKNOWN = 2**63 - 1
"""libsndfile's number of samples of a FLAC file whose header does not say it."""
_FLAC_MOST = 2**36 - 1
_MP3_SLACK = 2 * 1152
"""Samples at the end of an MP3 file that some headers count and others do not."""
_MP3_LEAD = 20 * 1152
"""Samples decoded before a part of an MP3 file: its frames need bits of up to ten earlier ones."""
WAY_OUT = "get the file again, or convert it and check the result: ffmpeg -i FILE out.wav"


class _Sound(soundfile.SoundFile):
    """A sound file that is read from where it stands."""

    def seekable(self) -> bool:
        """Return False: soundfile would seek after each block, which MP3 and FLAC do not survive."""
        return False


@dataclass(frozen=True, slots=True)
class _Opened:
    sound: _Sound
    n_samples: int | None
    """Number of samples; None if they have to be counted."""
    begins_at: int | None = None
    """The sample that is read first, if it cannot be sought; others can."""


@dataclass(frozen=True, slots=True)
class SoundHeader:
    """What a sound file holds; `frames` is its number of samples in each channel."""

    frames: int
    sample_rate: int
    channels: int


def read_sound(
    file: Path, start_s: float | None = None, duration_s: float = 0.0
) -> tuple[np.ndarray, int]:
    """Read a sound file, or a part of it.

    Args:
        file: The file.
        start_s: Where in the file the part begins; None for the whole file.
        duration_s: Duration of the part; it may end with the file.

    Returns:
        Samples, float32 [S, C], and their sample rate in Hz.

    Raises:
        UnfitSound: It is no regular file or an empty one, libsndfile cannot read it, or its header
            promises more or less than there is.
        OSError: The file cannot be opened.
    """
    with _open(file, start_s) as opened:
        rate = opened.sound.samplerate
        if start_s is None:
            return np.concatenate(list(_read_all(opened))), rate
        return _read_part(opened, round(start_s * rate), round(duration_s * rate)), rate


def read_header(file: Path) -> SoundHeader:
    """Return what a sound file holds; if its header does not say the length, count the samples.

    The samples of FLAC files are always counted, because the header may say less than there is.

    Raises:
        UnfitSound: As in `read_sound`.
        OSError: The file cannot be opened.
    """
    with _open(file) as opened:
        sound, n_samples = opened.sound, opened.n_samples
        if n_samples is None or sound.format == "FLAC":
            n_samples = sum(map(len, _read_all(opened)))
        return SoundHeader(n_samples, sound.samplerate, sound.channels)


@contextlib.contextmanager
def _open(file: Path, start_s: float | None = None) -> Iterator[_Opened]:
    """Open a sound file; if it is not only for the part at `start_s`, check what its header says."""
    check_regular(file)
    if not file.stat().st_size:
        raise UnfitSound("is empty (0 bytes); get the file again")
    try:
        with contextlib.ExitStack() as stack:
            yield _choose_source(stack, file, start_s)
    except UnfitSound as error:
        raise UnfitSound(f"{error}; {WAY_OUT}") from error
    except soundfile.LibsndfileError as error:
        why = error.error_string.strip().rstrip(".")
        raise UnfitSound(f"cannot be read as audio ({why}); {WAY_OUT}") from error


def _choose_source(stack: contextlib.ExitStack, file: Path, start_s: float | None) -> _Opened:
    """Open what libsndfile reads to its end: the file, a corrected copy in memory, or a pipe."""
    sound = stack.enter_context(_Sound(file))
    if sound.format == "MP3":
        return _open_mp3(stack, sound, file.read_bytes(), start_s)
    if sound.frames == _FLAC_UNKNOWN:
        return _Opened(sound, None, begins_at=0)
    if sound.format == "FLAC" and start_s is None:
        return _open_flac(stack, sound, file.read_bytes())
    if sound.format == "OGG":
        if start_s is None:
            _check_ogg(file.read_bytes())
        return _Opened(sound, sound.frames)
    has_counts = sound.format == "AIFF" and sound.subtype != "IMA_ADPCM"  # that one counts packets
    content = check_container(file, sound.extra_info if has_counts else "")
    if content is not None:
        sound = stack.enter_context(_Sound(io.BytesIO(content)))
    return _Opened(sound, sound.frames)


def _open_mp3(
    stack: contextlib.ExitStack, sound: _Sound, content: bytes, start_s: float | None
) -> _Opened:
    stream = Mp3Stream.of(content)
    if start_s is None:
        stream.check_count()
    if stream.promised is not None:
        return _Opened(sound, sound.frames)
    n_samples = stream.count_samples()
    if sound.frames >= n_samples:
        return _Opened(sound, n_samples)
    # libsndfile's estimate is too short, and only from a pipe does it read on.
    before = round((start_s or 0) * sound.samplerate) - _MP3_LEAD
    rest, begins_at = stream.begin_before(min(before, n_samples - 1))
    return _Opened(_open_pipe(stack, rest), n_samples, begins_at)


def _open_pipe(stack: contextlib.ExitStack, content: bytes) -> _Sound:
    """Open a pipe that a thread writes the content into."""
    read_end, write_end = os.pipe()

    def write() -> None:
        # The pipe may be closed before all of it has been read.
        with contextlib.suppress(BrokenPipeError), os.fdopen(write_end, "wb") as opened:
            opened.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    stack.callback(writer.join)
    stack.callback(os.close, read_end)
    return stack.enter_context(_Sound(read_end, closefd=False))


def _open_flac(stack: contextlib.ExitStack, sound: _Sound, content: bytes) -> _Opened:
    """Open a copy whose header promises one sample more, to see whether there is one."""
    n_samples, start = sound.frames, skip_tag(content, 0)
    if re.search(rb"fLaC[\x00\x80]\0\0\x22", content[start + 4 :]):
        raise UnfitSound("holds several FLAC files one after the other")
    # The number is in the last 36 bits of these bytes of the first block.
    total = slice(start + 21, start + 26)
    one_more = int(n_samples < _FLAC_MOST)
    changed = (int.from_bytes(content[total]) + one_more).to_bytes(5)
    content = content[: total.start] + changed + content[total.stop :]
    return _Opened(stack.enter_context(_Sound(io.BytesIO(content))), n_samples)


def _check_ogg(content: bytes) -> None:
    """Check that an Ogg file is one whole stream: libsndfile reads only the first of several."""
    if re.search(rb"OggS\0[\0\1\4\5].*OggS\0[\2\6]", content, re.DOTALL):
        raise UnfitSound("holds several Ogg streams one after the other")
    last = content[content.rfind(b"OggS") :]
    header = last[:282].ljust(282, b"\0")  # 27 bytes and at most 255 lengths of segments
    missing = 27 + header[26] + sum(header[27 : 27 + header[26]]) - len(last)
    if missing > 0:
        raise UnfitSound(f"is cut short: the last {missing:,} bytes of a page are missing")


def _read_all(opened: _Opened) -> Iterator[np.ndarray]:
    """Yield all samples in blocks [S, C]."""
    n_read = 0
    for block in _read_blocks(opened.sound, opened.n_samples):
        n_read += len(block)
        yield block
    _check_count(opened, n_read, opened.n_samples)
    if opened.sound.format == "FLAC" and opened.n_samples is not None and _has_more(opened.sound):
        raise UnfitSound(f"its header promises {opened.n_samples:,} samples, but there are more")


def _read_part(opened: _Opened, start: int, wanted: int) -> np.ndarray:
    """Return `wanted` samples [S, C], or those up to the end of the file."""
    sound = opened.sound
    if opened.begins_at is not None:
        lead = start - opened.begins_at
    else:
        lead = min(start, _MP3_LEAD) if sound.format == "MP3" else 0
        sound.seek(start - lead)
    if opened.n_samples is None:
        return np.concatenate(list(_read_blocks(sound, lead + wanted)))[lead:]
    wanted = min(wanted, opened.n_samples - start)
    samples = np.concatenate(list(_read_blocks(sound, lead + wanted)))[lead:]
    _check_count(opened, len(samples), wanted)
    return samples


def _read_blocks(sound: _Sound, n_samples: int | None) -> Iterator[np.ndarray]:
    """Yield at least one block [S, C], and no more than the number of samples if it is known."""
    n_left = n_samples
    while True:
        n_asked = BLOCK_FRAMES if n_left is None else max(0, min(n_left, BLOCK_FRAMES))
        block = sound.read(n_asked, dtype="float32", always_2d=True)
        yield block
        n_left = None if n_left is None else n_left - len(block)
        if len(block) < BLOCK_FRAMES:
            return


def _check_count(opened: _Opened, n_read: int, expected: int | None) -> None:
    slack = _MP3_SLACK if opened.sound.format == "MP3" else 0
    if expected is not None and n_read < expected - slack:
        raise UnfitSound(
            f"is cut short: its header promises {opened.n_samples:,} samples, and reading ended "
            f"{expected - n_read:,} before that"
        )


def _has_more(sound: _Sound) -> bool:
    try:
        return len(sound.read(1)) > 0
    except soundfile.LibsndfileError:
        return False  # something follows the samples, but it is no sound
