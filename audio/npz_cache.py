"""Arrays that are cached in an .npz file; a damaged file is made again."""

import logging
from pathlib import Path

import numpy as np

from disk import open_whole

logger = logging.getLogger(__name__)


def read_arrays(file: Path, *, quiet: bool = False) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; an empty dict if there is no file, or it is damaged.

    Args:
        file: the .npz file.
        quiet: whether to omit the warning about damage, because the caller does not make the file
            again.

    Raises:
        PermissionError: the file may not be read.
    """
    try:
        # Opened here, because numpy does not close a damaged file.
        with file.open("rb") as opened, np.load(opened) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        return {}
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - damage raises many kinds of errors
        reason = " ".join(str(error).split()) or type(error).__name__
        if not quiet:
            logger.warning("%s: damaged, so it is made again (%s)", file, reason)
        return {}


def look_alike(arrays: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    """Tell whether arrays have the names, shapes and types of others."""
    return arrays.keys() == others.keys() and all(
        array.shape == others[name].shape and array.dtype == others[name].dtype
        for name, array in arrays.items()
    )


def write_arrays(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays by name; the file appears whole, also after a power failure."""
    with open_whole(file) as opened:
        np.savez(opened, allow_pickle=False, **arrays)
