"""Which recordings are learnt from, and which are tested on, where nobody says.

Dimensions: N clips (or files) of a corpus.

A recording goes as a whole, wherever else it is heard. Who is taken is decided by hashes of the
names: the same on every machine, and hardly changed by new recordings.
"""

import hashlib

import numpy as np

from audio.clips import SPLITS, assign_folds

TEST_SHARE = 0.2
"""Share of each class's recordings that is tested on."""
MIN_RECORDINGS = 2
"""Of each class in a split below 100: one to learn from, one for `select`."""


def test_clips(recordings: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """Which clips are tested on, bool [N]: a recording of each class at least, where it has two.

    Args:
        recordings: what each clip was cut from, [N].
        scenes: its class, [N].
    """
    everything = np.ones(len(scenes), dtype=bool)
    place, total = _places(recordings, scenes, everything, purpose="test")
    count = np.where(total > 1, np.maximum(1, np.round(TEST_SHARE * total)), 0)
    return np.isin(recordings, recordings[place < count])


def folds(
    recordings: np.ndarray, scenes: np.ndarray, in_test: np.ndarray
) -> dict[int, list[str | None]]:
    """Fold of every clip in each split that there is.

    Args:
        recordings: what each clip was cut from, [N].
        scenes: its class, [N].
        in_test: whether it is tested on, bool [N].
    """
    return {
        split: assign_folds(scenes, recordings, in_split, in_test)
        for split, in_split in _splits(recordings, scenes, ~in_test, MIN_RECORDINGS).items()
    }


def folds_within(
    recordings: np.ndarray, scenes: np.ndarray, told: np.ndarray
) -> dict[int, list[str | None]]:
    """The same where the folds of split 100 are settled: smaller ones take a share of each fold.

    Args:
        recordings: what each clip was cut from, [N].
        scenes: its class, [N].
        told: its fold, [N].
    """
    fit, select = (_splits(recordings, scenes, told == fold, 1) for fold in ("fit", "select"))
    drawn = {}
    for split in SPLITS:
        if split in fit and split in select:
            folds = told.astype(object)
            folds[~(fit[split] | select[split] | (told == "test"))] = None
            drawn[split] = folds.tolist()
    return drawn


def _splits(
    recordings: np.ndarray, scenes: np.ndarray, among: np.ndarray, least: int
) -> dict[int, np.ndarray]:
    """Which of some clips are in each split, bool [N]; splits below 100 hold `least` a class."""
    # Not the order in which `select` is cut: else the small splits would all be its recordings.
    place, total = _places(recordings, scenes, among, purpose="split")
    counts = {split: np.round(total * split / 100) for split in SPLITS}
    return {
        split: among & np.isin(recordings, recordings[among & (place < count)])
        for split, count in counts.items()
        if split == 100 or count.min() >= least
    }


def _places(
    recordings: np.ndarray, scenes: np.ndarray, among: np.ndarray, *, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """Each clip's recording's place in its class by the hash of its name, and how many there are.

    Args:
        recordings: what is hashed, [N].
        scenes: class of each clip, [N].
        among: which clips are placed, bool [N].
        purpose: orders with different purposes have nothing in common.
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
