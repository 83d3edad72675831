"""The options of the command; the project's other commands use a library that devices lack."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

PROGRAM = "python -m students.classify"
ABOUT = "Name the scene of sound files, or live of standard input or a microphone."
EXAMPLE = f"{PROGRAM} --model student.onnx recording.wav"
LIVE = "arecord -q -f S16_LE -r 32000"
"""Records from the microphone of a Linux machine, as a WAV stream."""
STANDARD_INPUT = "-"
RATES_HZ, CHANNELS = (1_000, 384_000), (1, 1_024)
"""The least and the most that are taken: other numbers in a header are errors, and need any memory."""
HOPS_S = (0.01, 60.0)
LEAST_THRESHOLD = 0.01
_SHOWN = 40
"""Characters of a wrong value that a message repeats."""


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options that were typed; SystemExit if they cannot be, or not together."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.microphone:
        for name in ("files", "sample_rate", "events"):
            if getattr(options, name):
                typed = "FILE" if name == "files" else f"--{name.replace('_', '-')}"
                parser.error(f"{typed}: expected without --microphone, which is heard live")
    elif not options.files:
        parser.error(
            "FILE: expected sound files, folders of them, - for standard input, or --microphone"
        )
    if options.events and len(options.files) != 1:
        parser.error(f"--events {options.events}: expected one FILE, which its times are of")
    named = [name for name, _ in options.threshold]
    for name in named:
        if named.count(name) > 1:
            what = "for all classes" if name is None else f"for {name}"
            parser.error(f"--threshold: expected one {what}, and there are {named.count(name)}")
    return options


def is_live(options: argparse.Namespace) -> bool:
    """Return whether sound is heard in overlapping windows, smoothed, with thresholds."""
    return bool(options.microphone or options.hop or options.threshold or options.events)


def make_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=ABOUT,
        epilog=f"Example:\n    {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files",
        nargs="*",
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
    _add_live_options(parser)
    return parser


def _add_live_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of which each makes the command print what is on, when it changes."""
    parser.add_argument(
        "--microphone",
        action="store_true",
        help="hear the default microphone until Ctrl-C; needs the package sounddevice",
    )
    parser.add_argument(
        "--hop",
        type=_parse_number(*HOPS_S),
        help="seconds from one window to the next: windows overlap, their probabilities are smoothed, "
        "and a line is printed where another class begins, or none of them is left; without it, but "
        "with another of these options, windows follow each other",
    )
    parser.add_argument(
        "--threshold",
        type=_parse_threshold,
        action="append",
        default=[],
        metavar="CLASS=PROBABILITY",
        help="the smoothed probability at which a class begins, 0.5 without it; a class ends below 0.7 "
        "times as much. Without CLASS= it is that of all classes that have none of their own: "
        "--threshold 0.6 --threshold dog=0.8",
    )
    parser.add_argument(
        "--events",
        type=Path,
        help="CSV file with the columns start_s, end_s and class: what is to be heard in the one FILE. "
        "Prints what was found, missed or a false alarm, and how many of them there are an hour",
    )


def _parse_whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # More digits than high has would take long to read.
        value = int(text) if text.isdecimal() and len(text) <= len(str(high)) else low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{_shorten(text)!r}: expected a whole number from {low:,} to {high:,}"
            )
        return value

    return parse


def _parse_number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{_shorten(text)!r}: expected a number from {low:g} to {high:g}"
            )
        return value

    return parse


def _parse_threshold(text: str) -> tuple[str | None, float]:
    """Return a class, None for all of them, and its threshold."""
    name, equals, number = text.rpartition("=")
    return name if equals else None, _parse_number(LEAST_THRESHOLD, 1.0)(number)


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
