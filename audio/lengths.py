"""How long a clip is when it reaches the front-end."""

import math
from dataclasses import dataclass
from typing import Literal

TOLERANCE = 0.01
"""Files whose durations differ by at most this share last as long."""
HOW = ("native", "repeat", "pad", "crop")


class UnfitLength(ValueError):
    """A corpus's clips cannot be brought to the asked length in the asked way."""

    def __init__(self, how: str, asked_s: float, clip_s: float) -> None:
        self.how, self.asked_s, self.clip_s = how, asked_s, clip_s
        rule = "cuts out at most what is there" if how == "crop" else "only makes clips longer"
        other = "repeat or pad" if how == "crop" else "crop"
        super().__init__(
            f"clips of {clip_s:g} s cannot become {asked_s:g} s by {how}, which {rule}; "
            f"ask for {'at most' if how == 'crop' else 'at least'} {clip_s:g} s, use {other}, "
            "or native to take clips as they are"
        )

    def __reduce__(self) -> tuple[type, tuple[str, float, float]]:
        """Made anew from its parts on the other side of a process border."""
        return type(self), (self.how, self.asked_s, self.clip_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipLength:
    """How clips of one length become clips of another.

    Raises:
        ValueError: a duration with "native", or none or one that is not above 0 with another.
    """

    how: Literal["native", "repeat", "pad", "crop"] = "native"
    """`native`: as they are; `repeat`: over and over, cut off at the end; `pad`: zeros after;
    `crop`: a window, the middle one in view 0 and a random one in every other view."""
    duration_s: float | None = None
    """Of what comes out, in seconds; None with `native`."""

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise ValueError(f"ClipLength: how={self.how!r}, expected one of {', '.join(HOW)}")
        if self.how == "native" and self.duration_s is not None:
            raise ValueError(
                f"ClipLength: duration_s={self.duration_s!r} with how='native', expected None: "
                "such clips stay as long as they are; name repeat, pad or crop to change that"
            )
        if self.how != "native" and not 0 < (self.duration_s or 0) < math.inf:
            raise ValueError(
                f"ClipLength: duration_s={self.duration_s!r} with how={self.how!r}, expected a "
                "finite number of seconds above 0"
            )

    def samples(self, clip_duration_s: float, sample_rate: int) -> int:
        """Samples of a clip that comes out, for clips of such a duration that go in.

        Raises:
            UnfitLength: a window longer than the clip, or a repetition or padding that is shorter.
        """
        clip_samples = round(clip_duration_s * sample_rate)
        if self.duration_s is None:
            return clip_samples
        asked = round(self.duration_s * sample_rate)
        if asked > clip_samples if self.how == "crop" else asked < clip_samples:
            raise UnfitLength(self.how, self.duration_s, clip_duration_s)
        return asked
