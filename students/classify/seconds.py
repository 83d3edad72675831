"""Each clip for itself: the mean over a file, or a line a second of a stream.

Dimensions: B clips, K classes, S samples.
"""

import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from audio.errors import UnfitName, UnfitSound
from audio.sound_folders import check_name
from students.classify.answers import compute_probabilities, describe_answer
from students.classify.files import read_clips
from students.classify.messages import complain, draw_bars
from students.classify.streams import cut_windows, open_stream
from students.runtime import ExportedStudent


def classify_file(student: ExportedStudent, file: Path) -> int:
    """Print what a file is, the mean over its clips; return 1 if it cannot be classified."""
    try:
        check_name(file)
        clips_BS = read_clips(file, student.sample_rate, student.clip_samples)
    except (UnfitName, OSError) as error:
        return complain(error)
    except UnfitSound as error:
        return complain(UnfitSound(f"{file}: {error}"))
    # One by one: a recording of an hour would be gigabytes of log-mels.
    logits_BK = np.concatenate([student.compute_logits(clip_S[None]) for clip_S in clips_BS])
    probabilities_K = compute_probabilities(student, logits_BK).mean(axis=0)
    sys.stdout.write(f"{file}\t{describe_answer(student, probabilities_K)}\n")
    if sys.stdout.isatty():
        sys.stdout.write(draw_bars(student.classes, probabilities_K))
    sys.stdout.flush()
    return 0


def classify_stream(
    student: ExportedStudent, stream: BinaryIO, sample_rate: int | None, channels: int
) -> None:
    """Print the scene of every second as it arrives, until the stream ends.

    Raises:
        UnfitSound: the stream is not 16-bit PCM, or has no samples.
    """
    with_bars = sys.stdout.isatty()
    sound = open_stream(stream, sample_rate, channels)
    length = student.clip_samples
    index = -1
    for index, clip_S in enumerate(cut_windows(sound, student.sample_rate, length, length)):
        logits_BK = student.compute_logits(clip_S[None])
        probabilities_K = compute_probabilities(student, logits_BK)[0]
        if with_bars:
            up = f"\x1b[{len(student.classes)}A" if index else ""
            sys.stdout.write(up + draw_bars(student.classes, probabilities_K))
        else:
            seconds = (index + 1) * student.clip_samples / student.sample_rate
            sys.stdout.write(f"{seconds:g}\t{describe_answer(student, probabilities_K)}\n")
        sys.stdout.flush()
    if index < 0:
        raise UnfitSound("standard input holds no samples")
