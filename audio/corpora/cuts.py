"""From files that last differently to clips that last alike.

Dimensions: N files, M clips that are cut from them.

A clip lasts as long as the median file, and at most 10 s, which is what all the published teachers
take. A longer file becomes several clips, evenly from its beginning to its end; a shorter one is
repeated. Files that all last alike, within 1 %, are clips as they are: docs/decisions/0014.
"""

import numpy as np

from audio.lengths import TOLERANCE

LONGEST_S = 10.0
"""Of clips that all the published teachers take."""
SHORTEST_S = 0.001
"""A file that is shorter says nothing of how long the others are."""


def clip_duration_s(durations_s: np.ndarray) -> float:
    """How long the clips of files of these durations are, to the millisecond.

    Args:
        durations_s: of each file, none below SHORTEST_S, [N].
    """
    first_s = round(float(durations_s[0]), 3)
    if _differs(durations_s, first_s).any():
        return min(LONGEST_S, round(float(np.median(durations_s)), 3))
    return first_s


def cut(durations_s: np.ndarray, clip_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Which clips files become.

    Args:
        durations_s: of each file, [N]; 0 for one that cannot be read, which is one clip.
        clip_s: how long a clip is.

    Returns:
        The file of each clip, int64 [M], ascending; and where in it the clip begins in seconds, to
        the millisecond, float64 [M], NaN for a file that is a clip as it is.
    """
    is_cut_N = _differs(durations_s, clip_s) & (durations_s > 0)
    n_clips_N = np.where(is_cut_N, np.maximum(1, np.rint(durations_s / clip_s)), 1).astype(np.int64)
    files_M = np.repeat(np.arange(len(durations_s)), n_clips_N)
    nth_M = np.arange(len(files_M)) - np.repeat(np.cumsum(n_clips_N) - n_clips_N, n_clips_N)
    spare_N = np.maximum(0, durations_s - clip_s)
    starts_M = spare_N[files_M] * nth_M / np.maximum(1, n_clips_N - 1)[files_M]
    starts_M = np.floor(starts_M * 1000) / 1000
    return files_M, np.where(is_cut_N[files_M], starts_M, np.nan)


def _differs(durations_s: np.ndarray, clip_s: float) -> np.ndarray:
    return np.abs(durations_s - clip_s) > TOLERANCE * clip_s
