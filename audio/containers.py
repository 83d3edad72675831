"""Compare what the headers of sound files promise with what is in the files.

libsndfile reads what a header promises, or as much of it as there is, and says nothing of the rest.
"""

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from audio.errors import UnfitSound

LEAST_UNKNOWN = 0x7F00_0000
"""Programs that write into a pipe promise about 2 or 4 GiB, because they cannot know the length."""
_UNKNOWN_32 = b"\xff" * 4
_OTHER_COUNT = "Frame count read from 'COMM' chunk"
_OTHER_FILE = rb"RIFF|RIFX|RF64|FORM|riff|caff|\.snd"
_TAGS = rb"ID3|TAG|APETAGEX|LIST|id3 |bext|iXML|_PMX|cue |smpl|JUNK"
"""What follows the samples of many files; it may be cut short."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a container is made of chunks: a name and a size each, then the content."""

    first: int
    """Where the first chunk begins."""
    header: struct.Struct
    samples: bytes
    """Name of the chunk that holds the samples."""
    multiple: int = 2
    """Chunks begin at multiples of it."""
    size_counts_header: bool = False


class _Samples(NamedTuple):
    """Where the samples of a file are, by its header, and where their size is written."""

    at: int
    n_bytes: int
    size_at: int

    @property
    def end(self) -> int:
        return self.at + self.n_bytes


_RIFF = _Layout(12, struct.Struct("<4sI"), b"data")
_W64_SAMPLES = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_LAYOUTS = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"RIFX": _Layout(12, struct.Struct(">4sI"), b"data"),
    b"FORM": _Layout(12, struct.Struct(">4sI"), b"SSND"),
    b"caff": _Layout(8, struct.Struct(">4sq"), b"data", multiple=1),
    b"riff": _Layout(40, struct.Struct("<16sQ"), _W64_SAMPLES, multiple=8, size_counts_header=True),
}


def check_container(file: Path, log: str = "") -> bytes | None:
    """Check that a file holds as many bytes of samples as its header promises.

    Args:
        file: A file that libsndfile can read.
        log: What libsndfile notes about an AIFF file, whose header promises a length twice.

    Returns:
        The content with an unknown length, if the header promises nothing but samples follow, or
        without what follows the samples of a W64 file; None if libsndfile can read the file itself.

    Raises:
        UnfitSound: there are more bytes of samples, or fewer. A promise of about 2 GiB stands for an
            unknown length, so there may be fewer.
    """
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        kind = opened.read(4)
        layout = _LAYOUTS.get(kind)
        samples = _find(opened, layout, size) if layout else _read_au(opened, kind)
        is_64_bit = kind in (b"RF64", b"caff", b"riff")
        least_unknown = LEAST_UNKNOWN**2 if is_64_bit else LEAST_UNKNOWN
        if samples is None or samples.n_bytes >= least_unknown:
            return None
        if samples.end > size:
            raise UnfitSound(
                f"is cut short: its header promises {samples.n_bytes:,} bytes of samples, and "
                f"{size - samples.at:,} are there"
            )
        if _OTHER_COUNT in log and samples.n_bytes:
            raise UnfitSound("its header promises another number of samples than there are")
        if _ends_well(opened, samples.end, size, layout):
            if kind != b"riff" or samples.end == size:
                return None
            # libsndfile takes what follows the samples of these files for samples.
            opened.seek(0)
            return opened.read(samples.end)
        if samples.n_bytes == 0 and not is_64_bit:
            opened.seek(0)
            content = opened.read()
            return content[: samples.size_at] + _UNKNOWN_32 + content[samples.size_at + 4 :]
        raise UnfitSound(
            f"its header promises {samples.n_bytes:,} bytes of samples, but {size - samples.end:,} "
            "more follow that are no other part of the file (ffmpeg reads them of a WAV file with "
            "-ignore_length 1)"
        )


def _find(opened: BinaryIO, layout: _Layout, size: int) -> _Samples | None:
    """Find the samples among the chunks; None if there are none."""
    at, size_of_rf64 = layout.first, None
    while at + layout.header.size <= size:
        opened.seek(at)
        header = opened.read(layout.header.size)
        name, n_bytes = layout.header.unpack(header)
        at += layout.header.size
        if name == b"ds64":
            size_of_rf64 = int.from_bytes(opened.read(16)[8:], "little")
        if name == layout.samples:
            if layout.size_counts_header:
                n_bytes -= layout.header.size
            if size_of_rf64 is not None:
                n_bytes = size_of_rf64
            return _Samples(at, n_bytes, at - 4)
        at += max(0, n_bytes - layout.header.size if layout.size_counts_header else n_bytes)
        at += -at % layout.multiple
    return None


def _read_au(opened: BinaryIO, kind: bytes) -> _Samples | None:
    if kind != b".snd":
        return None
    at, n_bytes = struct.unpack(">II", opened.read(8).ljust(8, b"\0"))
    return _Samples(at, n_bytes, 8)


def _ends_well(opened: BinaryIO, end: int, size: int, layout: _Layout | None) -> bool:
    """Return whether nothing follows the samples but other chunks, tags or zeros."""
    for at in (end, end + -end % (layout.multiple if layout else 1)):
        opened.seek(at)
        head = opened.read(24)
        if re.match(_OTHER_FILE, head):
            return False
        if len(head) < 8 or re.match(_TAGS, head):
            return True
        if layout and len(head) >= layout.header.size and re.match(rb"[ -~]{4}", head):
            _, n_bytes = layout.header.unpack(head[: layout.header.size])
            if n_bytes <= size - at:
                return True
    opened.seek(end)
    return not any(opened.read())
