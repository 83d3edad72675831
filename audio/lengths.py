"""The length of a clip when it reaches the front-end."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from audio.errors import UnfitLength

TOLERANCE = 0.01
"""Durations that differ by at most this share count as equal."""

LengthChange = Literal["native", "repeat", "pad", "crop"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipLength:
    """How clips of one length become clips of another.

    Raises:
        ValueError: `native` with a duration, or another way without one that is above 0.
    """

    how: LengthChange = "native"
    """`native`: as they are; `repeat`: repeated and cut off at the end; `pad`: zeros at the end;
    `crop`: a window, the middle one in view 0 and a random one in every other view."""
    duration_s: float | None = None
    """Duration of the result in seconds; None with `native`."""

    def __post_init__(self) -> None:
        ways = get_args(LengthChange)
        if self.how not in ways:
            raise ValueError(f"ClipLength: how={self.how!r}, expected one of {', '.join(ways)}")
        if self.how == "native" and self.duration_s is not None:
            raise ValueError(
                f"ClipLength: duration_s={self.duration_s!r} with how='native', expected None: "
                "such clips keep their length; use repeat, pad or crop to change it"
            )
        if self.how != "native" and not 0 < (self.duration_s or 0) < math.inf:
            raise ValueError(
                f"ClipLength: duration_s={self.duration_s!r} with how={self.how!r}, expected a "
                "finite number of seconds above 0"
            )

    def count_samples(self, clip_duration_s: float, sample_rate: int) -> int:
        """Return the number of samples that clips of `clip_duration_s` have after the change.

        Raises:
            UnfitLength: A crop that is longer than the clip, or a repetition or padding that is
                shorter.
        """
        clip_samples = round(clip_duration_s * sample_rate)
        if self.duration_s is None:
            return clip_samples
        asked = round(self.duration_s * sample_rate)
        if asked > clip_samples if self.how == "crop" else asked < clip_samples:
            raise UnfitLength(self.how, self.duration_s, clip_duration_s)
        return asked
