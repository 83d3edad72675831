"""The front-end as a C program: from 16-bit samples, in pieces of any size, to codes in 8 bits.

Dimensions: C channels, F mel bands, T frames.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio.decoding import FULL_SCALE
from audio.front_ends import FrontEnd
from students.c.mel_pieces import MelPieces, cut_mel_bank

_TEMPLATES = Path(__file__).parent / "templates"
_SMALLEST_TRANSFORM = 16
_KEPT_BITS = 20
"""Bits of a logarithm that waits for the end of its clip: in 16 bits, one code in 200 is another."""
_SMALLEST_SPREAD = 1e-3
"""As in `audio.log_mel`."""


class UnfitFrontEnd(ValueError):
    """A front-end that has no C program."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontEndProgram:
    """A front-end in C."""

    files: Mapping[str, str]
    """The text of front_end.c and of front_end.h, by name."""
    scratch_bytes: int
    """Bytes of its state, beside the codes."""
    constant_bytes: int
    """Bytes of its tables."""


@dataclass(frozen=True, eq=False, slots=True)
class _Table:
    """A constant array of C."""

    name: str
    kind: str
    values: Sequence[float]
    about: str

    @property
    def n_bytes(self) -> int:
        return len(self.values) * {"float": 4, "uint8_t": 1}[self.kind]

    def print(self) -> str:
        numbers = [
            _print_float(each) if self.kind == "float" else str(each) for each in self.values
        ]
        rows = ["  " + ", ".join(numbers[at : at + 8]) for at in range(0, len(numbers), 8)]
        body = ",\n".join(rows)
        return f"/* {self.about} */\nstatic const {self.kind} {self.name}[{len(numbers)}] = {{\n{body}}};\n"


def make_front_end(
    front_end: FrontEnd, n_samples: int, input_scale: float, input_zero: int
) -> FrontEndProgram:
    """Return the C program of a front-end.

    Args:
        front_end: its settings.
        n_samples: samples of a clip, at the front-end's sample rate.
        input_scale: step of the codes.
        input_zero: the code of 0.

    Raises:
        UnfitFrontEnd: no C program can have these settings; names the setting.
        ValueError: the clip is too short for the front-end.
    """
    _check(front_end)
    sizes = _collect_sizes(front_end, n_samples)
    cut = cut_mel_bank(front_end)
    tables = [_make_sine(front_end), _make_window(front_end), *_make_bank_tables(cut)]
    whole, others = _collect_constants(front_end, sizes["FRAMES"], cut, input_scale, input_zero)
    return FrontEndProgram(
        files={
            "front_end.c": _print_source(front_end, whole, others, tables),
            "front_end.h": _print_header(sizes),
        },
        scratch_bytes=sizes["SCRATCH_BYTES"],
        constant_bytes=sum(table.n_bytes for table in tables),
    )


def choose_radices(n_points: int) -> list[int]:
    """Return the radices of a transform, the first pass first: as few passes as possible.

    Args:
        n_points: a product of 2s, 3s and 5s.
    """
    rest, odd = n_points, []
    for radix in (5, 3):
        while rest % radix == 0:
            rest //= radix
            odd.append(radix)
    eights, left = divmod(rest.bit_length() - 1, 3)
    # Two passes of 4 are cheaper than one of 8 and one of 2.
    if left == 1 and eights:
        return [*odd, 4, 4, *[8] * (eights - 1)]
    return [*odd, *([2**left] if left else []), *[8] * eights]


def _check(front_end: FrontEnd) -> None:
    rest = front_end.n_fft
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    if rest != 1 or front_end.n_fft < _SMALLEST_TRANSFORM:
        raise UnfitFrontEnd(
            f"front-end: n_fft={front_end.n_fft}, expected for C a product of 2s, 3s and 5s, at least "
            f"{_SMALLEST_TRANSFORM}: train the student with another n_fft, or export it without its "
            "front-end"
        )
    if front_end.window_samples < 2:
        raise UnfitFrontEnd(
            f"front-end: window_samples={front_end.window_samples}, expected for C at least 2: train "
            "the student with another window, or export it without its front-end"
        )


def _collect_sizes(front_end: FrontEnd, n_samples: int) -> dict[str, int]:
    channels, bands, frames = front_end.compute_shape(n_samples)
    window = _round_up(front_end.window_samples, 2)
    held_bytes = 2 if front_end.pre_emphasis is None else 4
    history_bytes = (window + 1) * held_bytes
    work_bytes = max((front_end.n_fft // 2 + 1) * 8, (frames + 4) * 4)
    # Three counters of 32 bits, one sample of 16.
    state_bytes = _round_up(history_bytes, 4) + 3 * 4 + 2
    kept_bytes = _count_kept_bytes(front_end, frames)
    return {
        "SAMPLE_RATE": front_end.sample_rate,
        "CLIP_SAMPLES": n_samples,
        "CHANNELS": channels,
        "BANDS": bands,
        "FRAMES": frames,
        "CODE_BYTES": channels * bands * frames,
        "SCRATCH_BYTES": _round_up(work_bytes + state_bytes + kept_bytes, 4),
    }


def _waits(front_end: FrontEnd) -> bool:
    """Return whether codes depend on later frames."""
    return front_end.delta or front_end.standardise


def _count_kept_bytes(front_end: FrontEnd, n_frames: int) -> int:
    """Return the bytes of the logarithms that do not fit into the codes; C has no empty array."""
    if not _waits(front_end):
        return 1
    halves = -(-front_end.mel_bands // 2) * n_frames
    return halves if front_end.delta else halves + front_end.mel_bands * n_frames


def _collect_constants(
    front_end: FrontEnd, n_frames: int, cut: MelPieces, input_scale: float, input_zero: int
) -> tuple[dict[str, int], dict[str, float]]:
    """Return the whole numbers and the others that the template names."""
    n_points = front_end.n_fft // 2
    radices = choose_radices(n_points)
    width = front_end.window_samples
    half, mirror = _fold_window(front_end)
    whole = {
        "N_FFT": front_end.n_fft,
        "POINTS": n_points,
        "PASSES": len(radices),
        "LAST_RADIX": radices[-1],
        "CIRCLE": _count_circle(front_end),
        "QUARTER": _count_circle(front_end) // 4,
        "WINDOW": _round_up(width, 2),
        "WINDOW_BEFORE": (front_end.n_fft - width) // 2,
        "WINDOW_HALF": half,
        "WINDOW_MIRROR": mirror,
        "HISTORY": _round_up(width, 2) + 1,
        "HOP": front_end.hop_samples,
        "EMPHASISES": int(front_end.pre_emphasis is not None),
        "CELLS": front_end.mel_bands * n_frames,
        "FIRST_BIN": cut.first_bin,
        "PIECES": len(cut.pieces),
        "BENT": int(any(piece.bend for piece in cut.pieces)),
        "GAINED": int(cut.gains_F is not None),
        "WAITS": int(_waits(front_end)),
        "STANDARDISE": int(front_end.standardise),
        "KEPT_BYTES": _count_kept_bytes(front_end, n_frames),
        "INPUT_ZERO": input_zero,
    }
    base = 1 if front_end.log == "ln" else math.log(10)
    lowest = math.log(front_end.log_offset)
    kept_steps = (2**_KEPT_BITS - 1) / (math.log(_bound_power(front_end, cut)) - lowest)
    # From natural logarithms to values, which a step of the codes divides.
    gain = 1 / (base * front_end.scale)
    others = {
        "PRE_EMPHASIS": front_end.pre_emphasis or 0.0,
        "LOG_OFFSET": front_end.log_offset,
        "INPUT_SCALE": input_scale,
        "CODE_GAIN": gain / input_scale,
        "CODE_SHIFT": front_end.shift / front_end.scale / input_scale,
        "LOWEST_LOG": lowest,
        "KEPT_STEPS": kept_steps,
        "VALUE_GAIN": gain / kept_steps / input_scale,
        "VALUE_SHIFT": (lowest * gain + front_end.shift / front_end.scale) / input_scale,
        "SMALLEST_SPREAD": _SMALLEST_SPREAD * base * kept_steps,
    }
    return whole, others


def _bound_power(front_end: FrontEnd, cut: MelPieces) -> float:
    """Return a power that no band exceeds: that of a spectrum with all of a loudest frame in it."""
    loudest = 1 + (front_end.pre_emphasis or 0.0)
    squares = float(np.square(_compute_window(front_end) * loudest).sum())
    gain = 1.0 if cut.gains_F is None else float(cut.gains_F.max())
    return front_end.n_fft * squares * max(gain, 1.0) + front_end.log_offset


def _count_circle(front_end: FrontEnd) -> int:
    """Return the number of angles that the table of sines divides a circle into."""
    return math.lcm(front_end.n_fft, 4)


def _make_sine(front_end: FrontEnd) -> _Table:
    circle = _count_circle(front_end)
    angles = 2 * np.pi * np.arange(circle // 4 + 1) / circle
    return _Table("sine", "float", np.sin(angles).tolist(), "The sine over the first quarter.")


def _compute_window(front_end: FrontEnd) -> np.ndarray:
    width = front_end.window_samples
    period = width if front_end.window == "periodic" else width - 1
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / period)


def _fold_window(front_end: FrontEnd) -> tuple[int, int]:
    """Return how many weights the table has, and from which sum of two samples they repeat."""
    width = front_end.window_samples
    if front_end.window == "periodic":
        return width // 2 + 1, width
    # An odd width is filled up with a 0, which has no mirror image.
    return ((width + 1) // 2, width - 1) if width % 2 == 0 else (width + 1, 0)


def _make_window(front_end: FrontEnd) -> _Table:
    half, _ = _fold_window(front_end)
    weights = np.append(_compute_window(front_end), 0)[:half] / (2 * FULL_SCALE)
    about = f"Half a Hann window; full scale is {FULL_SCALE}, and the transform expects halves."
    return _Table("window", "float", weights.tolist(), about)


def _make_bank_tables(cut: MelPieces) -> list[_Table]:
    pieces = cut.pieces
    bends = [piece.bend for piece in pieces] if any(piece.bend for piece in pieces) else [0.0]
    return [
        _Table(
            "piece_bins",
            "uint8_t",
            [piece.bins + 128 * piece.goes_on for piece in pieces],
            "Pieces of the mel bank: bins between two peaks; 128 more if the next piece goes on.",
        ),
        _Table(
            "first_weights",
            "float",
            [piece.first_weight for piece in pieces],
            "What part of a piece's first bin rises to the higher peak.",
        ),
        _Table(
            "weight_steps",
            "float",
            [piece.step for piece in pieces],
            "By how much the second rises more.",
        ),
        _Table(
            "weight_bends", "float", bends, "By how much each step is larger than the one before."
        ),
        _Table(
            "band_gains",
            "float",
            [1.0] if cut.gains_F is None else cut.gains_F.tolist(),
            "Factors of the bands.",
        ),
    ]


def _print_header(sizes: Mapping[str, int]) -> str:
    lines = "".join(f"#define FRONT_END_{name} {value}\n" for name, value in sizes.items())
    return (_TEMPLATES / "front_end.h").read_text().replace("@SIZES@\n", lines)


def _print_source(
    front_end: FrontEnd,
    whole: Mapping[str, int],
    others: Mapping[str, float],
    tables: Sequence[_Table],
) -> str:
    radices = choose_radices(front_end.n_fft // 2)
    passes, calls = _print_passes(radices)
    integers = "".join(f"  {name} = {value},\n" for name, value in whole.items())
    numbers = "".join(f"#define {name} {_print_float(value)}\n" for name, value in others.items())
    held = "int16_t" if front_end.pre_emphasis is None else "float"
    return (
        (_TEMPLATES / "front_end.c")
        .read_text()
        .replace("@SETTINGS@", _describe(front_end))
        .replace("@INTEGERS@\n", integers)
        .replace("@NUMBERS@\n", numbers)
        .replace("@PASSES@\n", passes)
        .replace("@CALLS@\n", calls)
        .replace("@RADICES@", ", ".join(map(str, radices)))
        .replace("@TABLES@\n", "\n".join(table.print() for table in tables))
        .replace("@HELD@", held)
    )


def _print_passes(radices: Sequence[int]) -> tuple[str, str]:
    """Return the functions of a transform's passes, and the calls of them."""
    calls, length = "", 1
    for radix in radices:
        name, given = (radix, "") if radix in (4, 8) else ("any", f"{radix}, ")
        calls += f"  pass_{name}(spectrum, {given}{length});\n"
        length *= radix
    names = {radix if radix in (4, 8) else "any" for radix in radices}
    texts = [(_TEMPLATES / f"radix_{name}.c").read_text() for name in sorted(map(str, names))]
    return "\n".join([*texts, ""]), calls


def _describe(front_end: FrontEnd) -> str:
    """Return the settings in a line of words."""
    return (
        f"{front_end.sample_rate} Hz, {front_end.mel_bands} bands ({front_end.mel_bank}) of "
        f"{front_end.min_hz:g} to {front_end.max_hz:g} Hz, transforms of {front_end.n_fft} samples in "
        f"{front_end.window} windows of {front_end.window_samples} every {front_end.hop_samples}"
    )


def _print_float(value: float) -> str:
    text = f"{np.float32(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
