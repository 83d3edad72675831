"""Draw test clips and splits for a corpus that does not define them.

Dimensions: N clips (or files) of a corpus.

All clips of a recording are drawn together, even if they have different classes. Hashes of the names
decide: the result is the same on every machine and changes little when recordings are added.
"""

import hashlib

import numpy as np

from audio.clips import SPLITS, assign_folds

TEST_SHARE = 0.2
"""Share of each class's recordings that become test recordings."""
MIN_RECORDINGS = 2
"""Fewest recordings of a class in a split below 100: one for `fit`, one for `select`."""


def draw_test_clips(recordings: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """Return which clips are test clips, bool [N]: at least one recording of each class with two.

    Args:
        recordings: Recording of each clip, [N].
        scenes: Class of each clip, [N].
    """
    everything = np.ones(len(scenes), dtype=bool)
    place, total = _rank_recordings(recordings, scenes, everything, purpose="test")
    count = np.where(total > 1, np.maximum(1, np.round(TEST_SHARE * total)), 0)
    return np.isin(recordings, recordings[place < count])


def draw_folds(
    recordings: np.ndarray, scenes: np.ndarray, in_test: np.ndarray
) -> dict[int, list[str | None]]:
    """Return the fold of every clip in each split that is possible.

    Args:
        recordings: Recording of each clip, [N].
        scenes: Class of each clip, [N].
        in_test: Whether each clip is a test clip, bool [N].
    """
    return {
        split: assign_folds(scenes, recordings, in_split, in_test)
        for split, in_split in _draw_splits(recordings, scenes, ~in_test, MIN_RECORDINGS).items()
    }


def draw_folds_within(
    recordings: np.ndarray, scenes: np.ndarray, given: np.ndarray
) -> dict[int, list[str | None]]:
    """Return the folds of all splits if those of split 100 are given: shares of each of its folds.

    Args:
        recordings: Recording of each clip, [N].
        scenes: Class of each clip, [N].
        given: Fold of each clip in split 100, [N].
    """
    fit, select = (_draw_splits(recordings, scenes, given == fold, 1) for fold in ("fit", "select"))
    drawn = {}
    for split in SPLITS:
        if split in fit and split in select:
            folds = given.astype(object)
            folds[~(fit[split] | select[split] | (given == "test"))] = None
            drawn[split] = folds.tolist()
    return drawn


def _draw_splits(
    recordings: np.ndarray, scenes: np.ndarray, among: np.ndarray, least: int
) -> dict[int, np.ndarray]:
    """Return which of some clips are in each split that has `least` recordings of each class."""
    # Another order than that of `select`: else the small splits would consist of its recordings.
    place, total = _rank_recordings(recordings, scenes, among, purpose="split")
    counts = {split: np.round(total * split / 100) for split in SPLITS}
    return {
        split: among & np.isin(recordings, recordings[among & (place < count)])
        for split, count in counts.items()
        if split == 100 or count.min() >= least
    }


def _rank_recordings(
    recordings: np.ndarray, scenes: np.ndarray, among: np.ndarray, *, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """Order the recordings of each class by hash; return each clip's position and class total.

    Args:
        recordings: Recording of each clip, whose name is hashed, [N].
        scenes: Class of each clip, [N].
        among: Which clips take part, bool [N].
        purpose: Part of the hash: orders with different purposes are independent.
    """
    place, total = np.zeros(len(scenes), dtype=np.int64), np.zeros(len(scenes), dtype=np.int64)
    for scene in np.unique(scenes):
        rows = np.flatnonzero(among & (scenes == scene))
        names, of_row = np.unique(recordings[rows], return_inverse=True)
        digests = [hashlib.sha256(f"{purpose}/{name}".encode()).digest() for name in names]
        place_of_name = np.empty(len(names), dtype=np.int64)
        place_of_name[sorted(range(len(names)), key=digests.__getitem__)] = np.arange(len(names))
        place[rows] = place_of_name[of_row]
        total[scenes == scene] = len(names)
    return place, total
