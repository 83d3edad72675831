"""Ends commands that are told to stop: by Ctrl-C, by SIGTERM or by SIGHUP.

SIGTERM comes from Kubernetes, Slurm, systemd and `ray job stop`, SIGHUP from a terminal that is closed.
"""

import errno
import os
import signal
import socket
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_STOP_S = 1.0
"""`timeout`, for example, sends its signal twice: what follows so soon is the same wish to stop."""


_before: dict[int, Any] = {}
"""The handlers that were there before the outermost block of `stop_on_signals`."""
_seen: list[int] = []
"""The signal that has stopped that block."""


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Have the first signal that tells this process to stop raise `KeyboardInterrupt` here.

    What is open can so be closed. A second signal, after a second, ends the process at once. SIGHUP
    stays ignored where it is (`nohup`). Only the main thread's outermost block does anything.
    """
    if _before or threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    if handlers[signal.SIGHUP] is signal.SIG_IGN:
        del handlers[signal.SIGHUP]
    _before.update(handlers)
    try:
        take_signals()
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if _seen:
            os.close(signal.set_wakeup_fd(-1))
        _before.clear()
        _seen.clear()


def take_signals() -> None:
    """Handle signals again, in a block of `stop_on_signals`, after a library has taken them."""
    if threading.current_thread() is threading.main_thread():
        for number in _before:
            signal.signal(number, _stop)


def raise_if_stopped() -> None:
    """Raise `KeyboardInterrupt` again if a library has swallowed it."""
    if _seen:
        raise KeyboardInterrupt


def find_exit_code() -> int:
    """Return the exit code of a process that was stopped, as shells count: 128 and the signal."""
    return 128 + _find_signal()


def describe_stop() -> str:
    """Return how this process was stopped, in words."""
    number = _find_signal()
    return "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"


def _find_signal() -> signal.Signals:
    # Libraries raise errors of their own in place of ours, so the error does not know it.
    return signal.Signals(_seen[0]) if _seen else signal.SIGINT


def _stop(number: int, frame: FrameType | None) -> None:
    if _seen:
        return
    _seen.append(number)
    _end_at_next_signal()
    if number == signal.SIGHUP:
        _leave_closed_terminal()
    raise KeyboardInterrupt


def _end_at_next_signal() -> None:
    """End this process at its next signal, whatever it does then."""
    woken, written = socket.socketpair()
    written.setblocking(False)
    # A handler in Python would wait for this thread, which may be inside a library.
    signal.set_wakeup_fd(written.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_wait_for_next, args=(woken, time.monotonic()), daemon=True).start()


def _wait_for_next(woken: socket.socket, first: float) -> None:
    with woken:
        while received := woken.recv(1):
            if received[0] in SIGNALS and time.monotonic() - first >= ONE_STOP_S:
                os._exit(128 + received[0])


def _leave_closed_terminal() -> None:
    """Write to nowhere what would be written to a terminal that is gone, which is an error."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(AttributeError, OSError, ValueError):
            number = stream.fileno()  # pyrefly: ignore[missing-attribute]
            try:
                termios.tcgetattr(number)
            except termios.error as error:
                if error.args[0] == errno.EIO:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
