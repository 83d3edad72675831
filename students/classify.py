"""Which scene is it: python -m students.classify FILE... --model student.onnx.

Needs onnxruntime, numpy and soundfile, and no torch.

Dimensions: B clips, S samples, K classes.
"""

import argparse
import io
import shlex
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from students.resample import Resampler, resample
from students.runtime import ExportedStudent, UnfitModel, load

PROGRAM = "python -m students.classify"
ABOUT = "Say which scene sound files are of, or what is heard, second by second."
EXAMPLE = f"{PROGRAM} --model student.onnx recording.wav"
LIVE = "arecord -q -f S16_LE -r 32000"
"""What hears with the microphone of a Linux machine, and says it as a WAV stream."""
STANDARD_INPUT = "-"
BLOCK_S = 0.1
BAR_WIDTH = 40
FULL_SCALE = 32768
RAW = ".raw"
_ENDINGS = {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".opus"}
_PCM, _EXTENSIBLE = 1, 0xFFFE


class UnfitSound(ValueError):
    """Sound that cannot be classified; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 if anything could not be classified."""
    options = parser().parse_args(arguments)
    try:
        student = load(options.model)
        if not student.takes_waveforms:
            raise UnfitModel(
                f"{options.model}: takes log-mels: export it again with --with-front-end"
            )
        files = list(_files(options.files))
    except (UnfitModel, UnfitSound, OSError) as error:
        return _complain(error)
    if files == [STANDARD_INPUT]:
        try:
            _classify_live(student, sys.stdin.buffer, options.sample_rate, options.channels)
        except UnfitSound as error:
            return _complain(error)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
        return 0
    code = max(_classify_file(student, Path(file)) for file in files)
    if sys.stdout.isatty():
        model = shlex.quote(str(options.model))
        sys.stdout.write(f"next: {LIVE} | {PROGRAM} --model {model} -\n")
    return code


def parser() -> argparse.ArgumentParser:
    """What the command takes; the others of the project need more than a device has to read it."""
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        description=ABOUT,
        epilog=f"Example:\n    {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="sound files, folders of them, or - for standard input as it arrives: a WAV stream, "
        "or raw samples with --sample-rate",
    )
    made.add_argument(
        "--model",
        type=Path,
        required=True,
        help="what python -m students.export wrote, --with-front-end",
    )
    made.add_argument(
        "--sample-rate",
        type=_positive,
        help="of raw 16-bit little-endian PCM on standard input, in Hz; a WAV stream tells its own",
    )
    made.add_argument(
        "--channels", type=_positive, default=1, help="of that PCM (default: %(default)s)"
    )
    return made


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, at least 1")
    return value


def _complain(error: Exception) -> int:
    sys.stderr.write(f"{PROGRAM}: {' '.join(str(error).split())}\n")
    return 1


def _files(names: Sequence[str]) -> Iterator[str]:
    """The named files, and those in the named folders.

    Raises:
        UnfitSound: standard input among files, or a folder without sound.
    """
    for name in names:
        if name == STANDARD_INPUT and len(names) > 1:
            raise UnfitSound("- stands for standard input, expected alone: leave the files out")
        if not Path(name).is_dir():
            yield name
            continue
        wanted = _ENDINGS - {RAW}
        inside = sorted(p for p in Path(name).rglob("*") if p.suffix.lower() in wanted)
        if not inside:
            raise UnfitSound(f"{name}: no sound file in this folder")
        yield from map(str, inside)


def _classify_file(student: ExportedStudent, file: Path) -> int:
    """Say the scene of a file: the mean over its seconds."""
    try:
        clips_BS = clips_of(file, student.sample_rate, student.clip_samples)
    except (UnfitSound, soundfile.LibsndfileError) as error:
        return _complain(UnfitSound(f"{file}: {error}"))
    # One by one: a recording of an hour would be gigabytes of log-mels.
    each_BK = np.concatenate([student.logits(clip_S[None]) for clip_S in clips_BS])
    probabilities_K = softmax(each_BK).mean(axis=0)
    best = int(probabilities_K.argmax())
    sys.stdout.write(f"{file}\t{student.classes[best]}\t{probabilities_K[best]:.3f}\n")
    if sys.stdout.isatty():
        sys.stdout.write(bars(student.classes, probabilities_K))
    return 0


def clips_of(file: Path, sample_rate: int, clip_samples: int) -> np.ndarray:
    """A file as clips, float32 [B, S]: mixed down, resampled, cut.

    What is left at the end and is no whole clip is left out; silence follows a file that is
    shorter than one.

    Raises:
        UnfitSound: raw samples, no sample at all, or one that is not finite.
        soundfile.LibsndfileError: not a file that libsndfile reads.
    """
    if file.suffix.lower() == RAW:
        raise UnfitSound("raw samples do not tell their rate: give - < FILE --sample-rate HZ")
    samples, file_rate = soundfile.read(file, dtype="float32", always_2d=True)
    if not len(samples):
        raise UnfitSound("holds no samples")
    if not np.isfinite(samples).all():
        raise UnfitSound("has samples that are not finite numbers")
    mono_S = resample(samples.mean(axis=1), file_rate, sample_rate)
    n_clips = max(1, len(mono_S) // clip_samples)
    whole_S = np.zeros(n_clips * clip_samples, dtype=np.float32)
    whole_S[: len(mono_S)] = mono_S[: len(whole_S)]
    return whole_S.reshape(n_clips, clip_samples)


def _classify_live(
    student: ExportedStudent, stream: BinaryIO, sample_rate: int | None, channels: int
) -> None:
    """Say the scene of every second as it arrives, until the stream ends.

    Raises:
        UnfitSound: not a stream of 16-bit PCM, or one of less than a clip.
    """
    if sample_rate is None:
        sample_rate, channels = wav_header(stream)
    is_picture = sys.stdout.isatty()
    blocks = pcm_blocks(stream, sample_rate, channels)
    index = -1
    for index, clip_S in enumerate(live_clips(blocks, sample_rate, student)):
        probabilities_K = softmax(student.logits(clip_S[None]))[0]
        if is_picture:
            up = f"\x1b[{len(student.classes)}A" if index else ""
            sys.stdout.write(up + bars(student.classes, probabilities_K))
        else:
            best = int(probabilities_K.argmax())
            seconds = (index + 1) * student.clip_samples / student.sample_rate
            sys.stdout.write(f"{seconds:g}\t{student.classes[best]}\t{probabilities_K[best]:.3f}\n")
        sys.stdout.flush()
    if index < 0:
        needed_s = student.clip_samples / student.sample_rate
        raise UnfitSound(f"standard input ended before there were {needed_s:g} s of sound")


def live_clips(
    blocks: Iterator[np.ndarray], sample_rate: int, student: ExportedStudent
) -> Iterator[np.ndarray]:
    """Clips [S] at the student's rate, each as soon as all of it is there."""
    resampler = None
    if sample_rate != student.sample_rate:
        resampler = Resampler(sample_rate, student.sample_rate)
    waiting_S = np.empty(0, dtype=np.float32)
    for block_S in blocks:
        arrived_S = resampler.feed(block_S) if resampler else block_S
        waiting_S = np.concatenate([waiting_S, arrived_S])
        while len(waiting_S) >= student.clip_samples:
            yield waiting_S[: student.clip_samples]
            waiting_S = waiting_S[student.clip_samples :]


def pcm_blocks(stream: BinaryIO, sample_rate: int, channels: int) -> Iterator[np.ndarray]:
    """16-bit little-endian PCM as it arrives, mixed down, float32 [S] within -1...1."""
    frame_bytes = 2 * channels
    block_bytes = max(1, round(BLOCK_S * sample_rate)) * frame_bytes
    while True:
        content = stream.read(block_bytes)
        whole = len(content) // frame_bytes * frame_bytes
        if not whole:
            return
        frames = np.frombuffer(content[:whole], dtype="<i2").reshape(-1, channels)
        yield frames.mean(axis=1, dtype=np.float32) / FULL_SCALE


def wav_header(stream: BinaryIO) -> tuple[int, int]:
    """Read a WAV stream up to its samples: sample rate in Hz, channels.

    soundfile needs files that it can go back in; the sizes in a stream's header are often made up.

    Raises:
        UnfitSound: not a WAV stream, or one of other samples than 16-bit PCM.
    """
    riff, _, wave = _unpacked(stream, "<4sI4s")
    if (riff, wave) != (b"RIFF", b"WAVE"):
        raise UnfitSound(
            "standard input is no WAV stream: say --sample-rate if it is raw 16-bit PCM"
        )
    found = None
    while True:
        name, size = _unpacked(stream, "<4sI")
        if name == b"data":
            break
        content = io.BytesIO(stream.read(size + size % 2))
        if name == b"fmt ":
            kind, channels, sample_rate, _, _, bits = _unpacked(content, "<HHIIHH")
            if kind not in (_PCM, _EXTENSIBLE) or bits != 16 or not channels or not sample_rate:
                raise UnfitSound(
                    f"the WAV stream has {channels} channel(s) of {bits} bits in format {kind} at "
                    f"{sample_rate} Hz, expected 16-bit PCM"
                )
            found = sample_rate, channels
    if found is None:
        raise UnfitSound("the WAV stream has samples before its format")
    return found


def _unpacked(stream: BinaryIO, layout: str) -> tuple:
    content = stream.read(struct.calcsize(layout))
    if len(content) < struct.calcsize(layout):
        raise UnfitSound("standard input ends within its WAV header")
    return struct.unpack(layout, content)


def softmax(logits_BK: np.ndarray) -> np.ndarray:
    """Probabilities, [B, K]."""
    shifted_BK = np.exp(logits_BK - logits_BK.max(axis=1, keepdims=True))
    return shifted_BK / shifted_BK.sum(axis=1, keepdims=True)


def bars(classes: Sequence[str], probabilities_K: np.ndarray) -> str:
    """A line a scene, with a bar as long as it is likely."""
    width = max(map(len, classes))
    lines = []
    for name, probability in zip(classes, probabilities_K, strict=True):
        bar = "█" * round(BAR_WIDTH * float(probability))
        lines.append(f"{name:>{width}} {bar:<{BAR_WIDTH}} {100 * probability:3.0f} %\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
