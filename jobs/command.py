"""Runs a command: parses its options, and prints errors as messages."""

import io
import logging
import shlex
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from rich.logging import RichHandler

from audio.errors import BrokenAudio, CorpusError, UnfitLength, UnfitSound
from disk import NoCacheFolder
from jobs.plan.options import CorpusOptions
from logit_store import LogitStoreError
from teachers import UnfitClips, UnknownTeacher, WeightsError
from terminal import describe_error, discard_output, parse_options, run_program
from terminal.console import UserError, error_console, repeat_command
from terminal.stopping import describe_stop, find_exit_code

REPORT = ("python", "jobs/report.py")

CommandOptions = TypeVar("CommandOptions", bound=CorpusOptions)


def run(main: Callable[[Any], int], options: type[CommandOptions]) -> None:
    """Parse the command line, run `main`, exit with its code; errors become one message.

    A signal that stops the command (Ctrl-C, SIGTERM, SIGHUP) is a message too; the code is 128 and its
    number.

    Args:
        main: the command; its docstring is the help, and has an example.
        options: the dataclass of its options.
    """
    # A submitted job has no terminal: without this its lines arrive in blocks.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    program = shlex.join(repeat_command()[:2])
    run_program(program, lambda: _run(main, parse_options(options, program, main.__doc__ or "")))


def _run(main: Callable[[Any], int], typed: CorpusOptions) -> int:
    """Run a command, return its code, and print the errors that its user can do something about."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=error_console, show_time=False, show_path=False)],
    )
    unfit = (UnfitLength, UnfitSound, UnfitClips, UnknownTeacher, WeightsError)
    known = (UserError, CorpusError, BrokenAudio, LogitStoreError, *unfit, OSError)
    try:
        code = main(typed)
        sys.stdout.flush()
    except KeyboardInterrupt:
        error_console.print(
            f"\n{describe_stop()}: the same command continues where this one stopped: "
            f"{shlex.join(repeat_command())}",
            markup=False,
        )
        code = find_exit_code()
    except RuntimeError as error:
        # So says pathlib, which has no class for it; some libraries ask when they are imported.
        if typed.debug or str(error) != "Could not determine home directory.":
            raise
        without = NoCacheFolder("there is no home directory", "TUTTI_CACHE")
        error_console.print(f"error: {without}", markup=False)
        code = 1
    except known as error:
        if typed.debug:
            raise
        error_console.print(f"error: {describe_error(error)}", markup=False)
        discard_output()
        code = 1
    return code
