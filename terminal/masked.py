"""What a command prints, without secrets."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import TracebackType
from typing import Any, TextIO, cast

from redact import redact_secrets


class _MaskedStream:
    """A stream that masks secrets in what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text without secrets."""
        self._stream.write(redact_secrets(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write the lines without secrets."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def mask_secrets() -> Iterator[None]:
    """Mask secrets in all that this process prints in this block, and in the traceback after it."""
    sys.excepthook = _print_masked
    with (
        redirect_stdout(cast("TextIO", _MaskedStream(sys.stdout))),
        redirect_stderr(cast("TextIO", _MaskedStream(sys.stderr))),
    ):
        yield


def _print_masked(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    lines = traceback.format_exception(kind, error, trace)
    sys.stderr.write(redact_secrets("".join(lines)))
