"""Count the frames of MP3 files, because their headers may say nothing of their length.

The first frame of most files holds no sound, but the number of frames: a Xing, Info or VBRI header.
Without it, libsndfile estimates the length from the bit rate of the first frame, and reads no further.
"""

import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from audio.errors import UnfitSound

_KBITS_MPEG_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_MPEG_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sample rates by the version's two bits: MPEG 1, 2 and 2.5."""
_SAME_STREAM = 0xFFFE_0C00
"""The bits of a frame's header that do not change within a stream: version, layer, sample rate."""
_COUNTS_ITSELF = 1
"""Some encoders count the frame of the Xing header too, and some do not."""


class _Frame(NamedTuple):
    n_bytes: int
    n_samples: int


@dataclass(frozen=True, slots=True)
class Mp3Stream:
    """The frames of an MP3 file."""

    content: bytes
    start: int
    """Where the first frame begins."""
    promised: int | None
    """Number of frames by its Xing, Info or VBRI header; None without one."""

    @classmethod
    def of(cls, content: bytes) -> "Mp3Stream":
        """Find the first frame.

        Raises:
            UnfitSound: there is none of MPEG Layer III.
        """
        start = _find_frame(content, skip_tag(content, 0))
        if start is None:
            raise UnfitSound("has no frame of MPEG Layer III whose length is known")
        return cls(content, start, _find_promise(content[start : start + 64]))

    def count_frames(self) -> int:
        """Return the number of whole frames, without that of the header."""
        return sum(1 for _ in self._walk()) - (self.promised is not None)

    def count_samples(self) -> int:
        """Return the number of samples of all frames."""
        return self.count_frames() * self._samples_per_frame()

    def begin_before(self, sample: int) -> tuple[bytes, int]:
        """Return the frames from the one that holds a sample, and the number of samples before."""
        nth = max(0, sample) // self._samples_per_frame()
        at = next(itertools.islice(self._walk(), nth, None))
        return self.content[at:], nth * self._samples_per_frame()

    def _samples_per_frame(self) -> int:
        frame = _parse_frame(self.content[self.start : self.start + 4])
        assert frame is not None
        return frame.n_samples

    def _walk(self) -> Iterator[int]:
        """Yield where each whole frame begins."""
        kind = int.from_bytes(self.content[self.start : self.start + 4]) & _SAME_STREAM
        at: int | None = self.start
        while at is not None:
            frame = _parse_frame(self.content[at : at + 4])
            if frame is None:
                at = _find_frame(self.content, skip_tag(self.content, at), kind)
            elif at + frame.n_bytes > len(self.content):
                return
            else:
                yield at
                at += frame.n_bytes

    def check_count(self) -> None:
        """Check that as many frames are there as the header promises.

        Raises:
            UnfitSound: there are more or fewer.
        """
        count = self.count_frames()
        if self.promised is None or abs(count - self.promised) <= _COUNTS_ITSELF:
            return
        if count < self.promised:
            why = "it is cut short"
        else:
            why = "several files one after the other, or a wrong header"
        raise UnfitSound(
            f"its header promises {self.promised:,} frames of MP3, and {count:,} are there: {why}"
        )


@functools.lru_cache(maxsize=4096)
def _parse_frame(header: bytes) -> _Frame | None:
    """Read the four bytes at the beginning of a frame; None if they are not such bytes."""
    word = int.from_bytes(header)
    version, layer = word >> 19 & 3, word >> 17 & 3
    kbits, rate = word >> 12 & 15, word >> 10 & 3
    if len(header) < 4 or word >> 21 != 0x7FF or version == 1 or layer != 1:
        return None
    if kbits in (0, 15) or rate == 3:
        return None
    kbits_of, n_samples = (_KBITS_MPEG_1, 1152) if version == 3 else (_KBITS_MPEG_2, 576)
    n_bytes = n_samples // 8 * kbits_of[kbits - 1] * 1000 // _RATES[version][rate]
    return _Frame(n_bytes + (word >> 9 & 1), n_samples)


def skip_tag(content: bytes, at: int) -> int:
    """Return where an ID3v2 tag ends; its size is written in four times seven bits."""
    while content[at : at + 3] == b"ID3" and at + 10 <= len(content):
        a, b, c, d = content[at + 6 : at + 10]
        at += 10 + (a << 21 | b << 14 | c << 7 | d)
    return at


def _find_frame(content: bytes, at: int, kind: int | None = None) -> int | None:
    """Return where the next frame begins that another one follows, or the end of the file."""
    while (at := content.find(b"\xff", at)) >= 0:
        frame = _parse_frame(content[at : at + 4])
        word = int.from_bytes(content[at : at + 4]) & _SAME_STREAM
        if frame is not None and word == (word if kind is None else kind):
            end = at + frame.n_bytes
            following = content[end : end + 4]
            if not following or following[:3] in (b"TAG", b"ID3", b"APE"):
                return at
            if _parse_frame(following) and int.from_bytes(following) & _SAME_STREAM == word:
                return at
        at += 1
    return None


def _find_promise(head: bytes) -> int | None:
    found = re.search(
        rb"(?:Xing|Info)...[\1\3\5\7\t\v\r\x0f](....)|VBRI.{10}(....)", head, re.DOTALL
    )
    return int.from_bytes(found[1] or found[2]) if found else None
