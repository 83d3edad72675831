"""Selects ensembles on a worker: a split's logits are read once, for many selections.

Dimensions: M members, N clips of the judging fold, K classes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import ensemble
from audio.parts import find_judging_rows
from audio.several import make_targets
from ensemble.options import MeanSpace, SelectionMetric
from ensemble.several import from_choices, to_choices
from ensemble.stored import SEVERAL
from logit_store import (
    LogitKey,
    LogitStore,
    MissingEnsemble,
    MissingLogits,
    MissingStore,
    TiedEnsembles,
)
from logit_store.clips_table import find_scenes, has_several_labels

FEW_RECORDINGS = 100
"""Up to this number of recordings, each is left out once to estimate the optimism; above it, a fifth
of them at a time."""
N_PARTS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionSettings:
    """How members are chosen and how much each counts; see `ensemble.select`."""

    space: MeanSpace = "logits"
    """What is averaged."""
    metric: SelectionMetric = "log_loss"
    with_replacement: bool = False
    max_members: int | None = None
    patience: int = 0
    bags: int = 0
    """The mean of selections on this number of random halves of the recordings; 0 selects once, on
    all."""
    weights: Literal["counts", "convex"] = "counts"
    calibrate: bool = False
    """Divide each member's logits by its own temperature first."""
    required: tuple[str, ...] = ()
    """Members that are in from the start."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """The input that all selections of a split share; Ray keeps one copy on each node.

    Of several labels a clip, each class of each clip is a choice of two (`ensemble.several`), and all that is
    said of clips is said of choices.
    """

    members: tuple[str, ...]
    """Sorted by name, so that the same members always give the same ensemble."""
    hashes: tuple[str, ...]
    """Hash of each member's logits, from its file's footer."""
    logits_MKN: NDArray[np.floating]
    labels_N: NDArray[np.int64]
    recordings_N: NDArray[np.int64]
    n_choices: int | None = None
    """The number of choices that a clip is, if it may have several labels; None: a clip has one."""

    def unfold(self) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """Return log odds [M, N, K] and targets [N, K] of clips that may have several labels.

        Raises:
            ValueError: a clip has one label.
        """
        if self.n_choices is None:
            raise ValueError("the mAP is for clips with several labels; take the macro accuracy")
        log_odds_MNK = from_choices(self.logits_MNK, self.n_choices)
        return log_odds_MNK, self.labels_N.reshape(-1, self.n_choices)

    @property
    def logits_MNK(self) -> NDArray[np.floating]:
        """The logits in the order of axes that selections need, without a copy."""
        return self.logits_MKN.transpose(0, 2, 1)

    def apply_temperatures(self, temperatures_M: NDArray[np.float64]) -> "Candidates":
        """Return the candidates with each member's logits divided by its temperature."""
        scales_M = (1 / temperatures_M).astype(np.float32)
        return replace(self, logits_MKN=self.logits_MKN * scales_M[:, None, None])

    def take(self, rows: NDArray[np.integer]) -> "Candidates":
        """Return the candidates on some of the clips."""
        return replace(
            self,
            logits_MKN=np.take(self.logits_MKN, rows, axis=2),
            labels_N=self.labels_N[rows],
            recordings_N=self.recordings_N[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadCandidates:
    """Reads the logits of a split's candidates on the clips that judge them, and what these clips are."""

    store: str
    """Address of the store."""
    corpus: str
    split: int
    members: tuple[str, ...]
    fold: str
    """A fold's name, or OUT_OF_FOLD if all candidates are cross-fitted."""

    def __str__(self) -> str:
        return f"logits of split {self.split}"

    def list_keys(self) -> list[LogitKey]:
        """Return the keys of the candidates' logits, sorted by name."""
        return [LogitKey(self.corpus, self.split, member) for member in sorted(self.members)]

    def run(self) -> Candidates:
        """Return the candidates."""
        store = LogitStore(self.store)
        keys = self.list_keys()
        clips = store.read_clips(self.corpus)
        rows = find_judging_rows(clips, self.split, self.fold)
        judged = clips.take(rows)
        scenes = find_scenes(clips)
        hashes = store.read_hashes(keys)
        logits_MNK = store.read(keys, rows, dtype=np.float16)
        recordings_N = np.unique(judged["recording"].to_numpy(), return_inverse=True)[1]
        several = has_several_labels(clips)
        if several:
            labels_N = make_targets(judged["scene"], scenes).astype(np.int64).ravel()
            logits_MNK, recordings_N = to_choices(logits_MNK), np.repeat(recordings_N, len(scenes))
        else:
            labels_N = np.searchsorted(scenes, judged["scene"].to_numpy())
        return Candidates(
            members=tuple(key.member for key in keys),
            hashes=tuple(hashes[key] for key in keys),
            # In the layout of the store, because Ray would copy an array that is not contiguous.
            logits_MKN=logits_MNK.transpose(0, 2, 1),
            labels_N=labels_N,
            recordings_N=recordings_N,
            n_choices=len(scenes) if several else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectEnsemble:
    """Selects an ensemble among a split's candidates and stores it.

    The same candidates and settings always give the same ensemble.
    """

    input: ReadCandidates
    name: str
    """The ensemble's name."""
    settings: SelectionSettings

    def find_result(self, store: LogitStore) -> str | None:
        """Return `NAME@HASH` if the newest ensemble of this name was selected in the same way.

        An older one, or one of several newest, does not count: selecting it again makes it the
        newest.
        """
        read = self.input
        try:
            reference = store.ensembles.find(read.corpus, read.split, self.name)
            document = store.ensembles.read(read.corpus, read.split, reference)
            # Only a selection of the same kind makes it worth looking at all candidates.
            if not _agrees(document, {"settings": asdict(self.settings), "fold": read.fold}):
                return None
            hashes = store.read_hashes(read.list_keys())
        except (MissingStore, MissingEnsemble, TiedEnsembles, MissingLogits):
            return None
        candidates = [{"member": key.member, "hash": each} for key, each in hashes.items()]
        return reference if _agrees(document, {"candidates": candidates}) else None

    def run_on(self, value: Candidates) -> str:
        """Select among the candidates that `input` read, store the ensemble, return `NAME@HASH`."""
        settings, candidates = self.settings, value
        temperatures_M = np.ones(len(candidates.members))
        if settings.calibrate:
            temperatures_M = ensemble.fit_temperatures(candidates.logits_MNK, candidates.labels_N)
            candidates = candidates.apply_temperatures(temperatures_M)
        selection = select_members(settings, candidates)
        chosen = np.flatnonzero(selection.weights)
        chosen_MNK = candidates.logits_MNK[chosen]
        document = _describe_ensemble(
            settings, candidates, selection, chosen_MNK, temperatures_M, self.input.fold
        )
        store = LogitStore(self.input.store)
        return store.ensembles.write(self.input.corpus, self.input.split, self.name, document)


def _agrees(document: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Tell whether a document has these values, as JSON gives them back."""
    return json.loads(json.dumps(expected)) == {name: document.get(name) for name in expected}


def _describe_ensemble(
    settings: SelectionSettings,
    candidates: Candidates,
    selection: "ensemble.Selection",
    chosen_MNK: NDArray[np.floating],
    temperatures_M: NDArray[np.float64],
    fold: str,
) -> dict[str, Any]:
    """Return the document of an ensemble in the store, with its optimism and calibration."""
    chosen, labels_N = np.flatnonzero(selection.weights), candidates.labels_N
    mean_NK = ensemble.mean_logits(chosen_MNK, selection.weights[chosen], space=settings.space)
    best = ensemble.fit_temperature(mean_NK, labels_N)
    estimate = ensemble.estimate_optimism(
        candidates.logits_MNK,
        labels_N,
        candidates.recordings_N,
        lambda rows: select_members(settings, candidates.take(rows)).weights,
        space=settings.space,
        n_folds=count_folds(candidates.recordings_N),
    )
    pairs = list(zip(candidates.members, candidates.hashes, strict=True))
    return {
        "space": settings.space,
        "members": [
            {
                "member": pairs[m][0],
                "hash": pairs[m][1],
                "weight": float(selection.weights[m]),
                "temperature": float(temperatures_M[m]),
            }
            for m in chosen
        ],
        "order": [candidates.members[m] for m in selection.members],
        "losses": list(selection.losses),
        "clips": len(labels_N) // (candidates.n_choices or 1),
        "fold": fold,
        "candidates": [{"member": member, "hash": digest} for member, digest in pairs],
        "settings": asdict(settings),
        "temperature": best,
        "calibration": asdict(ensemble.measure_calibration(mean_NK, labels_N, best)),
        "optimism": asdict(estimate),
        # What is not so is not said: ensembles of one label a clip keep their hashes.
        **({} if candidates.n_choices is None else {"labels": SEVERAL}),
    }


def select_members(settings: SelectionSettings, candidates: Candidates) -> "ensemble.Selection":
    """Select members, and weigh them as the settings say."""
    logits_MNK, labels_N = candidates.logits_MNK, candidates.labels_N
    how: dict[str, Any] = {
        "space": settings.space,
        "metric": settings.metric,
        "with_replacement": settings.with_replacement,
        "max_members": settings.max_members,
        "patience": settings.patience,
        "required": [candidates.members.index(member) for member in settings.required],
        "names": candidates.members,
    }
    if settings.metric == "mean_average_precision":
        log_odds_MNK, targets_NK = candidates.unfold()
        found = ensemble.select(log_odds_MNK, targets_NK, **how)
    elif settings.bags:
        found = ensemble.select_in_bags(
            logits_MNK, labels_N, candidates.recordings_N, n_bags=settings.bags, **how
        )
    else:
        found = ensemble.select(logits_MNK, labels_N, **how)
    if settings.weights == "counts":
        return found
    chosen = np.flatnonzero(found.weights)
    weights_M = np.zeros(len(logits_MNK))
    weights_M[chosen] = ensemble.convex_weights(logits_MNK[chosen], labels_N, space=settings.space)
    return replace(found, weights=weights_M)


def count_folds(recordings_N: NDArray[np.int64]) -> int:
    """Return in how many parts the recordings are left out in turn, to estimate the optimism."""
    n_recordings = len(np.unique(recordings_N))
    return n_recordings if n_recordings <= FEW_RECORDINGS else N_PARTS


def measure_agreement(logits_MNK: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the share of clips to which each two members give the same class, float64 [M, M]."""
    classes_MN = logits_MNK.argmax(axis=2)
    return np.stack([(classes_MN == classes_N).mean(axis=1) for classes_N in classes_MN])
