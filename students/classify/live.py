"""What is on now: overlapping windows, smoothed with hysteresis.

Dimensions: K classes.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from students.classify.answers import NONE_IN_WORDS
from students.classify.messages import draw_bars
from students.classify.streams import Sound, cut_windows
from students.runtime import ExportedStudent
from students.smoothing import (
    BEGINS_AT,
    END_RATIO,
    NONE_OF_THEM,
    SMOOTHING_S,
    Smoother,
    compute_share,
)

_TO_END_OF_LINE = "\x1b[K"


class UnfitLive(ValueError):
    """A hop or a threshold that does not suit the student; the message says why."""


class Moment(NamedTuple):
    """What is on at the end of a window."""

    at_s: float
    """Seconds of the sound up to the end of the window."""
    on: int
    """Index of the class that is on, or NONE_OF_THEM."""
    probabilities_K: np.ndarray
    """Smoothed probability of each class."""


@dataclass(frozen=True, eq=False, slots=True)
class Listener:
    """A student that hears overlapping windows."""

    student: ExportedStudent
    begins_at_K: np.ndarray
    """Upper threshold of each class: the smoothed probability at which it begins."""
    hop_samples: int
    """Samples from one window to the next, at the student's rate."""

    @property
    def hop_s(self) -> float:
        """Seconds from one window to the next."""
        return self.hop_samples / self.student.sample_rate

    @property
    def late_s(self) -> float:
        """How long after a sound what is on may still be its doing: a window, and the smoothing."""
        return self.student.clip_samples / self.student.sample_rate + SMOOTHING_S

    def follow(self, sound: Sound) -> Iterator[Moment]:
        """Yield what is on at the end of each window, as soon as it is heard.

        Raises:
            UnfitSound: the sound cannot be read on.
        """
        rate, length = self.student.sample_rate, self.student.clip_samples
        ends_at_K = END_RATIO * self.begins_at_K
        smoother = Smoother(self.begins_at_K, ends_at_K, compute_share(self.hop_s))
        for index, window_S in enumerate(cut_windows(sound, rate, length, self.hop_samples)):
            on = smoother.push(self.student.compute_logits(window_S[None])[0])
            at_s = (length + index * self.hop_samples) / rate
            yield Moment(at_s, on, smoother.probabilities_K)


def make_listener(
    student: ExportedStudent, hop_s: float | None, thresholds: Iterable[tuple[str | None, float]]
) -> Listener:
    """Return a listener with the options that were typed.

    Args:
        student: the student.
        hop_s: seconds from one window to the next; None for windows that follow each other.
        thresholds: class and threshold; None stands for all classes that are not named.

    Raises:
        UnfitLive: the hop is longer than a window, or the student does not know a class, or names several
            at once.
    """
    if student.has_several_labels:
        raise UnfitLive(
            "--microphone, --hop, --threshold and --events follow one class at a time, and this student names "
            "several at once: leave them out, and every clip is classified, also of standard input (FILE -)"
        )
    begins_at_K = _find_thresholds(student.classes, dict(thresholds))
    return Listener(student, begins_at_K, _find_hop(student, hop_s))


def _find_thresholds(classes: Sequence[str], by_class: dict[str | None, float]) -> np.ndarray:
    unknown = [name for name in by_class if name is not None and name not in classes]
    if unknown:
        raise UnfitLive(
            f"--threshold {unknown[0]}={by_class[unknown[0]]:g}: expected a class that the student "
            f"knows: {', '.join(classes)}"
        )
    others = by_class.get(None, BEGINS_AT)
    return np.array([by_class.get(name, others) for name in classes])


def _find_hop(student: ExportedStudent, hop_s: float | None) -> int:
    if hop_s is None:
        return student.clip_samples
    hop_samples = max(1, round(hop_s * student.sample_rate))
    if hop_samples > student.clip_samples:
        raise UnfitLive(
            f"--hop {hop_s:g}: expected at most {student.clip_samples / student.sample_rate:g} s, the "
            "window of this student: what is between two windows would not be heard"
        )
    return hop_samples


def print_changes(moments: Iterable[Moment], classes: Sequence[str], before: str = "") -> bool:
    """Print a line where what is on changes, with its smoothed probability.

    If none of them is on, the probability is that of the likeliest.

    Args:
        moments: what is on, window after window.
        classes: names of the classes.
        before: what each line begins with.

    Returns:
        Whether there was any window.
    """
    last = None
    for moment in moments:
        if moment.on != last:
            probability = moment.probabilities_K[moment.on]
            if moment.on == NONE_OF_THEM:
                probability = moment.probabilities_K.max()
            name = name_class(moment.on, classes)
            sys.stdout.write(f"{before}{moment.at_s:.2f}\t{name}\t{probability:.3f}\n")
            sys.stdout.flush()
        last = moment.on
    return last is not None


def show_bars(moments: Iterable[Moment], classes: Sequence[str]) -> bool:
    """Show smoothed probabilities as bars in a terminal, and what is on below; as `print_changes` otherwise."""
    up = ""
    for moment in moments:
        on = f"on: {name_class(moment.on, classes)}{_TO_END_OF_LINE}\n"
        sys.stdout.write(up + draw_bars(classes, moment.probabilities_K) + on)
        sys.stdout.flush()
        up = f"\x1b[{len(classes) + 1}A"
    return bool(up)


def name_class(on: int, classes: Sequence[str]) -> str:
    """Return the name of a class, or the words for none of them."""
    return NONE_IN_WORDS if on == NONE_OF_THEM else classes[on]
