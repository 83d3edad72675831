"""What the command says to people.

Dimensions: K classes.
"""

import sys
from collections.abc import Sequence

import numpy as np

from students.classify.options import PROGRAM

BAR_WIDTH = 40


def complain(error: Exception) -> int:
    """Write an error as one line, and return the exit code of a command that had one."""
    text = str(error)
    if isinstance(error, OSError):
        text = ": ".join(filter(None, (error.filename, error.strerror))) or text
    sys.stderr.write(f"{PROGRAM}: {' '.join(text.split())}\n")
    return 1


def draw_bars(classes: Sequence[str], probabilities_K: np.ndarray) -> str:
    """Return a line for each scene, with a bar as long as the scene is likely."""
    width = max(map(len, classes))
    lines = []
    for name, probability in zip(classes, probabilities_K, strict=True):
        bar = "█" * round(BAR_WIDTH * float(probability))
        lines.append(f"{name:>{width}} {bar:<{BAR_WIDTH}} {100 * probability:3.0f} %\n")
    return "".join(lines)
