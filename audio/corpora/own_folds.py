"""The folds of the user's own recordings: drawn, or as they are given, with a pool of what judges nothing."""

from pathlib import Path

import numpy as np

from audio.clips import POOL, UNLABELLED
from audio.corpora import draw
from audio.corpora.listing import Listing
from audio.errors import CorpusError
from audio.several import are_several, find_classes


def draw_own_folds(root: Path, listing: Listing) -> dict[int, list[str | None]]:
    """Return the fold of every file in each split that is possible; no source is in two drawn ones.

    Raises:
        CorpusError: A class cannot be learnt, or not be judged.
    """
    recordings, scenes = np.array(listing.sources or listing.recordings), np.array(listing.scenes)
    rows = np.flatnonzero(scenes != UNLABELLED)
    given = None if listing.given_folds is None else np.array(listing.given_folds)[rows]
    draw_by = _draw_folds_of_several if are_several(listing.scenes) else _draw_labelled_folds
    drawn = draw_by(root, recordings[rows], scenes[rows], given)
    return {split: _add_pool(recordings, rows, folds) for split, folds in drawn.items()}


def _draw_labelled_folds(
    root: Path, recordings: np.ndarray, scenes: np.ndarray, given_folds: np.ndarray | None
) -> dict[int, list[str | None]]:
    if given_folds is None:
        in_test = draw.draw_test_clips(recordings, scenes)
        _refuse_untrained_classes(root, scenes, in_test)
        return draw.draw_folds(recordings, scenes, in_test)
    _refuse_lone_classes(root, scenes, given_folds)
    if "fit" in given_folds:
        return draw.draw_folds_within(recordings, scenes, given_folds)
    return draw.draw_folds(recordings, scenes, given_folds == "test")


def _draw_folds_of_several(
    root: Path, recordings: np.ndarray, scenes: np.ndarray, given_folds: np.ndarray | None
) -> dict[int, list[str | None]]:
    """Draw folds without a look at labels; a split that does not know a class has no clips.

    Raises:
        CorpusError: A class cannot be learnt even from all training clips.
    """
    alike = np.full(len(scenes), "")
    if given_folds is None:
        drawn = draw.draw_folds(recordings, alike, draw.draw_test_clips(recordings, alike))
    elif "fit" in given_folds:
        drawn = draw.draw_folds_within(recordings, alike, given_folds)
    else:
        drawn = draw.draw_folds(recordings, alike, given_folds == "test")
    everything = find_classes(scenes.tolist())
    known = {split: _find_classes_in(scenes, folds, "fit") for split, folds in drawn.items()}
    lacking = sorted({*everything} - {*known[100]})
    if lacking:
        raise CorpusError(
            f"{root}: class {lacking[0]} has no clip in fit ({len(lacking)} in all), so that nothing "
            "could learn it; add recordings of it, or a column split with fit, select and test"
        )
    return {
        split: folds
        for split, folds in drawn.items()
        if known[split] == everything and _can_select(recordings, scenes, folds)
    }


def _can_select(recordings: np.ndarray, scenes: np.ndarray, folds: list[str | None]) -> bool:
    """Return whether a class occurs in `select`, and two recordings: intervals draw them."""
    inside = np.array(folds, dtype=object) == "select"
    return len(set(recordings[inside])) > 1 and bool(_find_classes_in(scenes, folds, "select"))


def _find_classes_in(scenes: np.ndarray, folds: list[str | None], fold: str) -> list[str]:
    return find_classes(scenes[np.array(folds, dtype=object) == fold].tolist())


def _add_pool(
    recordings: np.ndarray, labelled: np.ndarray, folds: list[str | None]
) -> list[str | None]:
    """Return the folds of all files of a split from those of the files with labels.

    A recording may have labelled clips and others. If it judges, none of its clips teaches.
    """
    judging = np.isin(np.array(folds, dtype=object), ("select", "test"))
    teaches = ~np.isin(recordings, recordings[labelled][judging])
    all_folds = np.full(len(recordings), None, dtype=object)
    all_folds[teaches] = POOL
    all_folds[labelled] = folds
    return all_folds.tolist()


def _refuse_lone_classes(root: Path, scenes: np.ndarray, given_folds: np.ndarray) -> None:
    training = "fit" if "fit" in given_folds else "train"
    lone = sorted(set(scenes[given_folds == "test"]) ^ set(scenes[given_folds == training]))
    if lone:
        in_test = lone[0] in scenes[given_folds == "test"]
        lacks, has = (training, "test") if in_test else ("test", training)
        raise CorpusError(
            f"{root}: class {lone[0]} is in {has}, but not in {lacks} ({len(lone)} in all); "
            "every class must be in both"
        )


def _refuse_untrained_classes(root: Path, scenes: np.ndarray, in_test: np.ndarray) -> None:
    """Refuse a class without training clips: all classes in a test recording are test clips."""
    lacking = sorted(set(scenes) - set(scenes[~in_test]))
    if lacking:
        raise CorpusError(
            f"{root}: class {lacking[0]} occurs only in recordings that were drawn as test "
            f"recordings ({len(lacking)} in all); add a column split with train and test"
        )
