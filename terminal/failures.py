"""Errors of the operating system, in words for people."""

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from terminal.masked import mask_secrets

_OTHER_DISK = "free some space there, or name another place"
_WAYS_OUT = {
    errno.ENOSPC: _OTHER_DISK,
    errno.EDQUOT: _OTHER_DISK,
    errno.EACCES: "let this user read and write there, or name another place",
    errno.EPERM: "let this user read and write there, or name another place",
    errno.EROFS: "name another place to write to",
}


def describe_error(error: BaseException) -> str:
    """Return the text of an error; if a disk is full or access is denied, with the way out."""
    if not isinstance(error, OSError) or error.errno not in _WAYS_OUT:
        return str(error)
    place = "" if error.filename is None else f"{error.filename}: "
    return f"{place}{error.strerror}: {_WAYS_OUT[error.errno]}"


def run_program(program: str, main: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code; with 1 and one line if the system refuses something.

    With `--debug` the error is shown whole. Secrets are masked in all that is printed.

    Args:
        program: as it is typed, for the line.
        main: the command.
    """
    with mask_secrets():
        try:
            code = main()
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader (head, less) has stopped.
            discard_output()
            code = 1
        except OSError as error:
            discard_output()
            if "--debug" in sys.argv:
                raise
            sys.stderr.write(f"{program}: {' '.join(describe_error(error).split())}\n")
            code = 1
    sys.exit(code)


def discard_output() -> None:
    """Throw away what cannot be printed, or Python would complain of it again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
