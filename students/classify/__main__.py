"""Runs the command: python -m students.classify FILE... --model student.onnx."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from audio.errors import UnfitSound
from students.classify.event_files import UnfitEvents, read_events
from students.classify.files import find_files
from students.classify.hear import hear_events, hear_file, hear_live, hear_recording
from students.classify.live import Listener, UnfitLive, make_listener
from students.classify.messages import complain
from students.classify.microphone import open_microphone
from students.classify.options import LIVE, PROGRAM, STANDARD_INPUT, is_live, read_options
from students.classify.seconds import classify_file, classify_stream
from students.classify.streams import open_stream
from students.runtime import ExportedStudent, UnfitModel, load_exported

INTERRUPTED, PIPE_CLOSED = 130, 141
"""Exit codes of a program that Ctrl-C ends, or whose output nobody reads, as shells report them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 if anything could not be classified."""
    options = read_options(arguments)
    try:
        return _classify(options)
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{PROGRAM}: interrupted\n")
        return INTERRUPTED
    except OSError as error:
        # Nobody reads the output any more, or its disk is full. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED if isinstance(error, BrokenPipeError) else complain(error)


def _classify(options: argparse.Namespace) -> int:
    try:
        student = _load(options.model)
        if STANDARD_INPUT in options.files[1:] + options.files[:-1]:
            raise UnfitSound("- stands for standard input, expected alone: leave the files out")
        if is_live(options):
            return _hear(options, make_listener(student, options.hop, options.threshold))
    except (UnfitModel, UnfitSound, UnfitLive, UnfitEvents) as error:
        return complain(error)
    if options.files == [STANDARD_INPUT]:
        return _classify_standard_input(student, options.sample_rate, options.channels)
    codes = [classify_file(student, file) for file in _list_files(options.files)]
    code = _count_faults(codes)
    if sys.stdout.isatty():
        model = shlex.quote(str(options.model))
        sys.stdout.write(f"next: {LIVE} | {PROGRAM} --model {model} -\n")
    return code


def _load(model: Path) -> ExportedStudent:
    """Load a student that takes waveforms; UnfitModel says why it cannot be used."""
    try:
        student = load_exported(model)
    except OSError as error:
        raise UnfitModel(f"{model}: {error.strerror}: name an exported student") from error
    if not student.takes_waveforms:
        raise UnfitModel(f"{model}: takes log-mels: export it again with --with-front-end")
    _check_shapes(model, student)
    return student


def _check_shapes(model: Path, student: ExportedStudent) -> None:
    (inputs,), (logits,) = student.session.get_inputs(), student.session.get_outputs()
    if (inputs.shape[-1], logits.shape[-1]) != (student.clip_samples, len(student.classes)):
        raise UnfitModel(
            f"{model}: takes {inputs.shape[-1]} samples and gives {logits.shape[-1]} logits, but its "
            f"metadata says {student.clip_samples} samples and {len(student.classes)} classes: "
            "export it with python -m students.export"
        )


def _hear(options: argparse.Namespace, listener: Listener) -> int:
    """Hear overlapping windows; errors are those of `hear` and of the list of events."""
    if options.microphone:
        return hear_live(listener, open_microphone())
    listed = read_events(options.events, listener.student.classes) if options.events else None
    if options.files == [STANDARD_INPUT]:
        sound = open_stream(sys.stdin.buffer, options.sample_rate, options.channels)
        return (
            hear_live(listener, sound) if listed is None else hear_events(listener, sound, listed)
        )
    files = _list_files(options.files)
    if listed is not None:
        return hear_recording(listener, files, listed)
    return _count_faults([hear_file(listener, file) for file in files])


def _list_files(names: Sequence[str]) -> list[Path]:
    return [file for name in names for file in find_files(Path(name))]


def _count_faults(codes: Sequence[int]) -> int:
    """Say how many of several files could not be classified; return the exit code."""
    if any(codes) and len(codes) > 1:
        complain(UnfitSound(f"{sum(codes)} of {len(codes)} files could not be classified"))
    return max(codes)


def _classify_standard_input(
    student: ExportedStudent, sample_rate: int | None, channels: int
) -> int:
    try:
        classify_stream(student, sys.stdin.buffer, sample_rate, channels)
    except UnfitSound as error:
        return complain(error)
    except KeyboardInterrupt:
        sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
