"""Arrays that are cached in an .npz file: whole, or made again."""

import logging
from pathlib import Path

import numpy as np

from disk import open_whole

logger = logging.getLogger(__name__)


def read_arrays(file: Path, *, quiet: bool = False) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; none without a file.

    Nor has a file that cannot be read any array: its owner makes it again. A line says so, unless
    `quiet`: for those who leave it to others to make it.
    """
    try:
        # Opened here, for numpy leaves a damaged file open.
        with file.open("rb") as opened, np.load(opened) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise
    except Exception as error:  # noqa: BLE001 - damage shows in a dozen ways
        reason = " ".join(str(error).split()) or type(error).__name__
        if not quiet:
            logger.warning("%s: damaged, so it is made again (%s)", file, reason)
        return {}


def write_arrays(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays by name; the file appears whole, and survives a power failure."""
    with open_whole(file) as opened:
        np.savez(opened, allow_pickle=False, **arrays)
