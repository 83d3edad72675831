"""Which scene is it: python -m students.classify FILE... --model student.onnx.

Needs onnxruntime, numpy, soundfile and soxr, but no torch.

Dimensions: B clips, S samples, K classes.
"""

import argparse
import io
import math
import os
import shlex
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soxr

from audio.containers import LEAST_UNKNOWN
from audio.errors import UnfitName, UnfitSound
from audio.sound_files import read_sound
from audio.sound_folders import check_name, list_folder, walk_sound_files
from students.runtime import ExportedStudent, UnfitModel, load_exported

PROGRAM = "python -m students.classify"
ABOUT = "Name the scene of each second of sound files, or of standard input."
EXAMPLE = f"{PROGRAM} --model student.onnx recording.wav"
LIVE = "arecord -q -f S16_LE -r 32000"
"""Records from the microphone of a Linux machine, as a WAV stream."""
STANDARD_INPUT = "-"
INTERRUPTED, PIPE_CLOSED = 130, 141
"""Exit codes of a program that Ctrl-C ends, or whose output nobody reads, as shells report them."""
RATES_HZ, CHANNELS = (1_000, 384_000), (1, 1_024)
"""The least and the most that are taken: other numbers in a header are errors, and need any memory."""
BLOCK_S = 0.1
BAR_WIDTH = 40
QUALITY = "HQ"
"""Quality of soxr's resampling: the same as in decoding for training (`audio.decoding`)."""
RAW = ".raw"
_FULL_SCALE = 32768
_PCM, _EXTENSIBLE = 1, 0xFFFE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 if anything could not be classified."""
    options = make_parser().parse_args(arguments)
    try:
        return _classify(options)
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{PROGRAM}: interrupted\n")
        return INTERRUPTED
    except OSError as error:
        # Nobody reads the output any more, or its disk is full. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED if isinstance(error, BrokenPipeError) else _complain(error)


def _classify(options: argparse.Namespace) -> int:
    try:
        student = load_exported(options.model)
        if not student.takes_waveforms:
            raise UnfitModel(
                f"{options.model}: takes log-mels: export it again with --with-front-end"
            )
        _check_shapes(options.model, student)
        if STANDARD_INPUT in options.files[1:] + options.files[:-1]:
            raise UnfitSound("- stands for standard input, expected alone: leave the files out")
    except (UnfitModel, UnfitSound) as error:
        return _complain(error)
    except OSError as error:
        return _complain(UnfitModel(f"{options.model}: {error.strerror}: name an exported student"))
    if options.files == [STANDARD_INPUT]:
        return _classify_standard_input(student, options.sample_rate, options.channels)
    files = [file for name in options.files for file in _find_files(Path(name))]
    codes = [_classify_file(student, file) for file in files]
    if any(codes) and len(codes) > 1:
        _complain(UnfitSound(f"{sum(codes)} of {len(codes)} files could not be classified"))
    if sys.stdout.isatty():
        model = shlex.quote(str(options.model))
        sys.stdout.write(f"next: {LIVE} | {PROGRAM} --model {model} -\n")
    return max(codes)


def _check_shapes(model: Path, student: ExportedStudent) -> None:
    (inputs,), (logits,) = student.session.get_inputs(), student.session.get_outputs()
    if (inputs.shape[-1], logits.shape[-1]) != (student.clip_samples, len(student.classes)):
        raise UnfitModel(
            f"{model}: takes {inputs.shape[-1]} samples and gives {logits.shape[-1]} logits, but its "
            f"metadata says {student.clip_samples} samples and {len(student.classes)} classes: "
            "export it with python -m students.export"
        )


def make_parser() -> argparse.ArgumentParser:
    """Return the command's parser; the project's other commands use a library that devices lack."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=ABOUT,
        epilog=f"Example:\n    {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="sound files, folders of them, or - for standard input as it arrives: a WAV stream, "
        "or raw samples with --sample-rate",
    )
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="the file that python -m students.export wrote, --with-front-end",
    )
    parser.add_argument(
        "--sample-rate",
        type=_parse_whole(*RATES_HZ),
        help="sample rate of raw 16-bit little-endian PCM on standard input, in Hz; the header of a "
        "WAV stream has its own",
    )
    parser.add_argument(
        "--channels",
        type=_parse_whole(*CHANNELS),
        default=1,
        help="number of channels of that PCM (default: %(default)s)",
    )
    return parser


def _parse_whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # More digits than high has would take long to read.
        value = int(text) if text.isdecimal() and len(text) <= len(str(high)) else low - 1
        if not low <= value <= high:
            shown = text if len(text) <= BAR_WIDTH else f"{text[:BAR_WIDTH]}..."
            raise argparse.ArgumentTypeError(
                f"{shown!r}: expected a whole number from {low:,} to {high:,}"
            )
        return value

    return parse


def _complain(error: Exception) -> int:
    text = str(error)
    if isinstance(error, OSError):
        text = ": ".join(filter(None, (error.filename, error.strerror))) or text
    sys.stderr.write(f"{PROGRAM}: {' '.join(text.split())}\n")
    return 1


def _find_files(path: Path) -> list[Path]:
    """Return the file, or those in the folder; a folder without sound files stands for itself."""
    return sorted(walk_sound_files(path)) or [path]


def _classify_file(student: ExportedStudent, file: Path) -> int:
    """Print the scene of a file, the mean over its seconds; return 1 if it cannot be classified."""
    try:
        check_name(file)
        clips_BS = read_clips(file, student.sample_rate, student.clip_samples)
    except (UnfitName, OSError) as error:
        return _complain(error)
    except UnfitSound as error:
        return _complain(UnfitSound(f"{file}: {error}"))
    # One by one: a recording of an hour would be gigabytes of log-mels.
    logits_BK = np.concatenate([student.compute_logits(clip_S[None]) for clip_S in clips_BS])
    probabilities_K = softmax(logits_BK).mean(axis=0)
    best = int(probabilities_K.argmax())
    sys.stdout.write(f"{file}\t{student.classes[best]}\t{probabilities_K[best]:.3f}\n")
    if sys.stdout.isatty():
        sys.stdout.write(draw_bars(student.classes, probabilities_K))
    sys.stdout.flush()
    return 0


def read_clips(file: Path, sample_rate: int, clip_samples: int) -> np.ndarray:
    """Read a file as clips, float32 [B, S]: mixed down, resampled, cut.

    A rest at the end that is shorter than a clip is left out; a file that is shorter than one clip
    is followed by silence.

    Raises:
        UnfitSound: a folder, raw samples, a file that cannot be read as audio or has a wrong header, no samples
            at all, or one that is not finite.
        OSError: the file cannot be opened.
    """
    if file.is_dir():
        list_folder(file)  # it may be that it cannot be read
        raise UnfitSound("no sound file in this folder")
    if file.suffix.lower() == RAW:
        raise UnfitSound("raw samples have no sample rate: give - < FILE --sample-rate HZ")
    samples, file_rate = read_sound(file)
    if not len(samples):
        raise UnfitSound("holds no samples")
    if not np.isfinite(samples).all():
        raise UnfitSound("has samples that are not finite numbers")
    _check_range(file_rate, RATES_HZ, "Hz")
    mono_S = samples.mean(axis=1)
    if file_rate != sample_rate:
        mono_S = soxr.resample(mono_S, file_rate, sample_rate, quality=QUALITY)
    n_clips = max(1, len(mono_S) // clip_samples)
    clips_S = np.zeros(n_clips * clip_samples, dtype=np.float32)
    clips_S[: len(mono_S)] = mono_S[: len(clips_S)]
    return clips_S.reshape(n_clips, clip_samples)


def _classify_standard_input(
    student: ExportedStudent, sample_rate: int | None, channels: int
) -> int:
    try:
        _classify_live(student, sys.stdin.buffer, sample_rate, channels)
    except UnfitSound as error:
        return _complain(error)
    except KeyboardInterrupt:
        sys.stdout.write("\n")
    return 0


def _classify_live(
    student: ExportedStudent, stream: BinaryIO, sample_rate: int | None, channels: int
) -> None:
    """Print the scene of every second as it arrives, until the stream ends.

    Raises:
        UnfitSound: the stream is not 16-bit PCM, or has no samples.
    """
    n_bytes = None
    if sample_rate is None:
        sample_rate, channels, n_bytes = read_wav_header(stream)
    with_bars = sys.stdout.isatty()
    blocks = read_pcm(stream, sample_rate, channels, n_bytes)
    index = -1
    for index, clip_S in enumerate(cut_live_clips(blocks, sample_rate, student)):
        probabilities_K = softmax(student.compute_logits(clip_S[None]))[0]
        if with_bars:
            up = f"\x1b[{len(student.classes)}A" if index else ""
            sys.stdout.write(up + draw_bars(student.classes, probabilities_K))
        else:
            best = int(probabilities_K.argmax())
            seconds = (index + 1) * student.clip_samples / student.sample_rate
            sys.stdout.write(f"{seconds:g}\t{student.classes[best]}\t{probabilities_K[best]:.3f}\n")
        sys.stdout.flush()
    if index < 0:
        raise UnfitSound("standard input holds no samples")


def cut_live_clips(
    blocks: Iterable[np.ndarray], sample_rate: int, student: ExportedStudent
) -> Iterator[np.ndarray]:
    """Yield clips [S] at the student's rate, each as soon as all of it is there.

    As of a file, a rest at the end is left out, and sound shorter than one clip is followed by silence.
    """
    if sample_rate != student.sample_rate:
        blocks = resample_blocks(blocks, sample_rate, student.sample_rate)
    waiting_S = np.empty(0, dtype=np.float32)
    is_first = True
    for block_S in blocks:
        waiting_S = np.concatenate([waiting_S, block_S])
        while len(waiting_S) >= student.clip_samples:
            is_first = False
            yield waiting_S[: student.clip_samples]
            waiting_S = waiting_S[student.clip_samples :]
    if is_first and len(waiting_S):
        yield np.pad(waiting_S, (0, student.clip_samples - len(waiting_S)))


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
    _check_range(sample_rate, RATES_HZ, "Hz")
    _check_range(channels, CHANNELS, "channels")
    return sample_rate, channels


def _check_range(number: int, low_high: tuple[int, int], unit: str) -> None:
    low, high = low_high
    if not low <= number <= high:
        raise UnfitSound(f"its header says {number:,} {unit}, expected {low:,} to {high:,}")


def _unpack(stream: BinaryIO, layout: str) -> tuple:
    content = stream.read(struct.calcsize(layout))
    if len(content) < struct.calcsize(layout):
        raise UnfitSound("standard input ends within its WAV header")
    return struct.unpack(layout, content)


def softmax(logits_BK: np.ndarray) -> np.ndarray:
    """Probabilities, [B, K]."""
    shifted_BK = np.exp(logits_BK - logits_BK.max(axis=1, keepdims=True))
    return shifted_BK / shifted_BK.sum(axis=1, keepdims=True)


def draw_bars(classes: Sequence[str], probabilities_K: np.ndarray) -> str:
    """Return a line for each scene, with a bar as long as the scene is likely."""
    width = max(map(len, classes))
    lines = []
    for name, probability in zip(classes, probabilities_K, strict=True):
        bar = "█" * round(BAR_WIDTH * float(probability))
        lines.append(f"{name:>{width}} {bar:<{BAR_WIDTH}} {100 * probability:3.0f} %\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
