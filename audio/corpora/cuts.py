"""Cut files of different durations into clips of the same duration.

Dimensions: N files, M clips that are cut from them.

A clip lasts as long as the median file, but at most 10 s, which all published teachers accept. A
longer file becomes several clips, spread evenly from its beginning to its end; a shorter file is
repeated. If all durations are equal within 1 %, each file is a clip: docs/decisions/0014.
"""

import numpy as np

from audio.lengths import TOLERANCE

LONGEST_S = 10.0
"""Longest clip that all published teachers accept."""
SHORTEST_S = 0.001
"""Shorter files are ignored when the clip duration is chosen."""


def choose_clip_duration_s(durations_s: np.ndarray) -> float:
    """Return the duration of clips for files of these durations, to the millisecond.

    Args:
        durations_s: Duration of each file, at least SHORTEST_S, [N].
    """
    first_s = round(float(durations_s[0]), 3)
    if _differs(durations_s, first_s).any():
        return min(LONGEST_S, round(float(np.median(durations_s)), 3))
    return first_s


def cut_files(durations_s: np.ndarray, clip_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut files into clips.

    Args:
        durations_s: Duration of each file, [N]; 0 for an unreadable file, which becomes one clip.
        clip_s: Duration of a clip.

    Returns:
        The file of each clip, int64 [M], ascending; and where in it the clip begins, in seconds to
        the millisecond, float64 [M], NaN if the file is the clip.
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
