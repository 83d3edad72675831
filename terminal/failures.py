"""Errors of the operating system, in words for people."""

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from terminal.masked import mask_secrets
from terminal.stopping import describe_stop, find_exit_code, stop_on_signals

_OTHER_PLACE = "name another place (for caches: TUTTI_CACHE)"
_OTHER_DISK = f"free some space there, or {_OTHER_PLACE}"
_RIGHTS = f"let this user read and write there, or {_OTHER_PLACE}"
_WAYS_OUT = {
    errno.ENOSPC: _OTHER_DISK,
    errno.EDQUOT: _OTHER_DISK,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _OTHER_PLACE,
}


def describe_error(error: BaseException) -> str:
    """Return the text of an error; if a disk is full or access is denied, with the way out."""
    if not isinstance(error, OSError) or error.errno not in _WAYS_OUT:
        return str(error)
    place = "" if error.filename is None else f"{error.filename}: "
    return f"{place}{error.strerror}: {_WAYS_OUT[error.errno]}"


def run_program(program: str, main: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code.

    It is 1, after one line, if the system refuses something, and 128 and the number of the signal if
    Ctrl-C, SIGTERM or SIGHUP stops the command.

    With `--debug` the error is shown whole. Secrets are masked in all that is printed.

    Args:
        program: as it is typed, for the line.
        main: the command.
    """
    with mask_secrets(), stop_on_signals():
        try:
            code = main()
            sys.stdout.flush()
        except KeyboardInterrupt:
            sys.stderr.write(f"\n{program}: {describe_stop()}\n")
            code = find_exit_code()
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
