"""The front-end as a C program: from 16-bit samples, in pieces of any size, to codes in 8 bits.

Dimensions: C channels, F mel bands, T frames.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio.decoding import FULL_SCALE
from audio.front_ends import FrontEnd
from students.c.mel_pieces import MelPieces, cut_mel_bank

_TEMPLATES = Path(__file__).parent / "templates"
_SMALLEST_TRANSFORM = 16
_SMALLEST_OFFSET = float(np.finfo(np.float32).tiny)
_KEPT_BITS = 20
"""Bits of a logarithm that waits for the end of its clip. Measured on the demo's clips with DSMN's
front-end: one code in 17,000 is another; in 16 bits one in 1,200, in float16 one in 130."""
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
    cut = cut_mel_bank(front_end)
    sizes = _collect_sizes(front_end, n_samples)
    header = _fill("front_end.h", {"SIZES": _print_macros(sizes)})
    tables = [_make_sine(front_end), _make_window(front_end), *_make_bank_tables(cut)]
    source = _fill(
        "front_end.c",
        {
            "SETTINGS": _describe(front_end),
            "HELD": "int16_t" if front_end.pre_emphasis is None else "float",
            "TABLES": "\n".join(table.print() for table in tables).rstrip(),
            "TRANSFORM": _print_transform(choose_radices(front_end.n_fft // 2)),
            "CODES": _print_codes(front_end, cut, input_scale),
            "INPUT_ZERO": str(input_zero),
            "PRE_EMPHASIS": _print_float(front_end.pre_emphasis or 0.0),
            "LOG_OFFSET": _print_float(front_end.log_offset),
            **_collect_integers(front_end, sizes["FRAMES"], cut),
        },
    )
    return FrontEndProgram(
        files={"front_end.c": source, "front_end.h": header},
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
    """Refuse what the program cannot do."""
    rest = front_end.n_fft
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    if rest != 1 or front_end.n_fft < _SMALLEST_TRANSFORM:
        expected = f"a product of 2s, 3s and 5s, at least {_SMALLEST_TRANSFORM}"
        raise _refuse("n_fft", front_end.n_fft, expected)
    if front_end.window_samples < 2:
        raise _refuse("window_samples", front_end.window_samples, "at least 2")
    if front_end.log_offset < _SMALLEST_OFFSET:
        raise _refuse("log_offset", front_end.log_offset, f"at least {_SMALLEST_OFFSET:.2g}")


def _refuse(setting: str, value: float, expected: str) -> UnfitFrontEnd:
    return UnfitFrontEnd(
        f"front-end: {setting}={value}, expected {expected} for a program in C: export the student "
        "without its front-end, or train it with another one"
    )


def _collect_sizes(front_end: FrontEnd, n_samples: int) -> dict[str, int]:
    channels, bands, frames = front_end.compute_shape(n_samples)
    window = _round_up(front_end.window_samples, 2)
    held_bytes = 2 if front_end.pre_emphasis is None else 4
    history_bytes = (window + 1) * held_bytes
    work_bytes = max((front_end.n_fft // 2 + 1) * 8, (frames + 4) * 4)
    # A mark and three counters of 32 bits, one sample of 16.
    state_bytes = _round_up(history_bytes, 4) + 4 * 4 + 2
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


def _collect_integers(front_end: FrontEnd, n_frames: int, cut: MelPieces) -> dict[str, str]:
    """Return the whole numbers that the template names."""
    radices = choose_radices(front_end.n_fft // 2)
    half, mirror = _fold_window(front_end)
    numbers = {
        "N_FFT": front_end.n_fft,
        "LAST_RADIX": radices[-1],
        "CIRCLE": _count_circle(front_end),
        "WINDOW": _round_up(front_end.window_samples, 2),
        "WINDOW_BEFORE": (front_end.n_fft - front_end.window_samples) // 2,
        "WINDOW_HALF": half,
        "WINDOW_MIRROR": mirror,
        "HOP": front_end.hop_samples,
        "EMPHASISES": int(front_end.pre_emphasis is not None),
        "FIRST_BIN": cut.first_bin,
        "PIECES": len(cut.pieces),
        "BENT": int(any(piece.bend for piece in cut.pieces)),
        "SCALED": int(cut.gains_F is not None),
        "KEPT_BYTES": _count_kept_bytes(front_end, n_frames),
    }
    return {name: str(value) for name, value in numbers.items()} | {
        "RADICES": ", ".join(map(str, radices))
    }


def _print_codes(front_end: FrontEnd, cut: MelPieces, input_scale: float) -> str:
    """Return what makes codes of logarithms: frame by frame, or when the clip is complete."""
    base = 1 if front_end.log == "ln" else math.log(10)
    # From natural logarithms to values, of which a step of the codes is input_scale.
    gain, shift = 1 / (base * front_end.scale), front_end.shift / front_end.scale
    if not _waits(front_end):
        numbers = {"CODE_GAIN": gain / input_scale, "CODE_SHIFT": shift / input_scale}
        return _fill("at_once.c", _print_floats(numbers)).rstrip()
    lowest = math.log(front_end.log_offset)
    kept_gain = (2**_KEPT_BITS - 1) / (math.log(_bound_power(front_end, cut)) - lowest)
    numbers = {
        "INPUT_SCALE": input_scale,
        "LOWEST_LOG": lowest,
        "KEPT_GAIN": kept_gain,
        "VALUE_GAIN": gain / kept_gain / input_scale,
        "VALUE_SHIFT": (lowest * gain + shift) / input_scale,
        "SMALLEST_SPREAD": _SMALLEST_SPREAD * base * kept_gain,
    }
    texts = _print_floats(numbers) | {"STANDARDISES": str(int(front_end.standardise))}
    return _fill("whole_clip.c", texts).rstrip()


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


def _fill(template: str, texts: Mapping[str, str]) -> str:
    """Return a template with texts in the place of their names: @NAME@."""
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z_]+)@", lambda found: texts[found[1]], text)


def _print_macros(sizes: Mapping[str, int]) -> str:
    return "\n".join(f"#define FRONT_END_{name} {value}" for name, value in sizes.items())


def _print_transform(radices: Sequence[int]) -> str:
    """Return the functions of a transform; only the passes that it has are among them."""
    calls, texts, length = [], {}, 1
    for radix in radices:
        name, given = (radix, "") if radix in (4, 8) else ("any", f"{radix}, ")
        calls.append(f"  pass_{name}(spectrum, {given}{length});")
        texts[name] = _fill(f"radix_{name}.c", {})
        length *= radix
    passes = "\n".join(texts.values()).rstrip()
    return _fill("transform.c", {"PASSES": passes, "CALLS": "\n".join(calls)}).rstrip()


def _describe(front_end: FrontEnd) -> str:
    """Return the settings in lines of words, for a comment."""
    return (
        f"{front_end.sample_rate} Hz, {front_end.mel_bands} bands ({front_end.mel_bank})\n"
        f"   of {front_end.min_hz:g} to {front_end.max_hz:g} Hz, transforms of {front_end.n_fft} samples "
        f"in {front_end.window} windows of {front_end.window_samples}\n"
        f"   every {front_end.hop_samples}"
    )


def _print_floats(numbers: Mapping[str, float]) -> dict[str, str]:
    return {name: _print_float(value) for name, value in numbers.items()}


def _print_float(value: float) -> str:
    text = f"{np.float32(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
