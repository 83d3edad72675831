"""What Ray runs to select ensembles: one read of a split's logits, many selections among them.

Dimensions: M members, N clips of the judging fold, K classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from ensemble import (
    Selection,
    bagged,
    calibration,
    convex_weights,
    mean_logits,
    optimism,
    select,
    temperature,
    temperatures,
)
from jobs.fanout import RETRIES
from logit_store import LogitKey, LogitStore

Space = Literal["logits", "probabilities"]

FEW_RECORDINGS = 100
"""Up to so many, each is left out once to estimate the optimism; of more, a fifth at a time."""
FOLDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How members are chosen and how much each counts; see `ensemble.select`."""

    space: Space = "logits"
    """What is averaged."""
    metric: Literal["log_loss", "macro_accuracy", "brier"] = "log_loss"
    with_replacement: bool = False
    max_members: int | None = None
    patience: int = 0
    bags: int = 0
    """Mean of the selections on so many halves of the recordings; 0 selects once, on all."""
    weights: Literal["counts", "convex"] = "counts"
    calibrate: bool = False
    """Divide each member's logits by its own temperature first."""
    required: tuple[str, ...] = ()
    """Members that are in from the start."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """What selections of a split share: one array, so that Ray keeps one object a node."""

    members: tuple[str, ...]
    """In the order of their names, so that the same members always give the same ensemble."""
    hashes: tuple[str, ...]
    """Of each member's logits, as in its file's footer."""
    logits_MKN: NDArray[np.floating]
    labels_N: NDArray[np.int64]
    recordings_N: NDArray[np.int64]

    @property
    def logits_MNK(self) -> NDArray[np.floating]:
        """As selections take it, without a copy."""
        return self.logits_MKN.transpose(0, 2, 1)

    def at(self, temperatures_M: NDArray[np.float64]) -> "Candidates":
        """The same with each member's logits divided by its temperature."""
        scales_M = (1 / temperatures_M).astype(np.float32)
        return replace(self, logits_MKN=self.logits_MKN * scales_M[:, None, None])

    def on(self, rows: NDArray[np.integer]) -> "Candidates":
        """The same on some of the clips."""
        return replace(
            self,
            logits_MKN=np.take(self.logits_MKN, rows, axis=2),
            labels_N=self.labels_N[rows],
            recordings_N=self.recordings_N[rows],
        )


@dataclass(frozen=True, eq=False, slots=True)
class Chosen:
    """An ensemble that is in the store."""

    reference: str
    """NAME@HASH."""
    agreement_MM: NDArray[np.float64]
    """Share of clips to which two of its members give the same class."""


def reading(
    store: str, corpus: str, split: int, members: Sequence[str], fold: str
) -> ray.ObjectRef:
    """Start to read the candidates of a split; what selections take as `candidates`."""
    remote = ray.remote(max_retries=RETRIES)(read_candidates)
    return remote.options(name=f"logits of split {split}").remote(
        store, corpus, split, members, fold
    )


def read_candidates(
    store: str, corpus: str, split: int, members: Sequence[str], fold: str
) -> Candidates:
    """The members' logits of the clips of one fold, and what these clips are."""
    opened = LogitStore(store)
    keys = [LogitKey(corpus, split, member) for member in sorted(members)]
    clips = opened.clips(corpus)
    rows = np.flatnonzero(pc.fill_null(pc.equal(clips[f"fold_{split}"], fold), False).to_numpy())
    judged = clips.take(rows)
    scenes = sorted(pc.unique(clips["scene"]).to_pylist())
    footers = opened.footers(keys)
    return Candidates(
        members=tuple(key.member for key in keys),
        hashes=tuple(footers[key].logits_hash for key in keys),
        # The layout of the store: an array that is not contiguous would be copied on its way.
        logits_MKN=opened.read(keys, rows, dtype=np.float16).transpose(0, 2, 1),
        labels_N=np.searchsorted(scenes, judged["scene"].to_numpy()),
        recordings_N=np.unique(judged["recording"].to_numpy(), return_inverse=True)[1],
    )


def choose(
    store: str,
    corpus: str,
    split: int,
    fold: str,
    name: str,
    settings: Settings,
    candidates: Candidates,
) -> Chosen:
    """Select an ensemble among the candidates and store it; the same ones give the same ensemble."""
    temperatures_M = np.ones(len(candidates.members))
    if settings.calibrate:
        temperatures_M = temperatures(candidates.logits_MNK, candidates.labels_N)
        candidates = candidates.at(temperatures_M)
    logits_MNK, labels_N = candidates.logits_MNK, candidates.labels_N
    selection = selected(settings, candidates)
    chosen = np.flatnonzero(selection.weights)
    weights = selection.weights[chosen]
    mean_NK = mean_logits(logits_MNK[chosen], weights, space=settings.space)
    best = temperature(mean_NK, labels_N)
    estimate = optimism(
        logits_MNK,
        labels_N,
        candidates.recordings_N,
        lambda rows: selected(settings, candidates.on(rows)).weights,
        space=settings.space,
        n_folds=n_folds(candidates.recordings_N),
    )
    pairs = list(zip(candidates.members, candidates.hashes, strict=True))
    document: dict[str, Any] = {
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
        "clips": len(labels_N),
        "fold": fold,
        "candidates": [{"member": member, "hash": digest} for member, digest in pairs],
        "settings": asdict(settings),
        "temperature": best,
        "calibration": asdict(calibration(mean_NK, labels_N, best)),
        "optimism": asdict(estimate),
    }
    reference = LogitStore(store).write_ensemble(corpus, split, name, document)
    return Chosen(reference, _agreement(logits_MNK[chosen]))


def selected(settings: Settings, candidates: Candidates) -> Selection:
    """The selection, with the weights that were asked for."""
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
    if settings.bags:
        found = bagged(logits_MNK, labels_N, candidates.recordings_N, n_bags=settings.bags, **how)
    else:
        found = select(logits_MNK, labels_N, **how)
    if settings.weights == "counts":
        return found
    chosen = np.flatnonzero(found.weights)
    weights_M = np.zeros(len(logits_MNK))
    weights_M[chosen] = convex_weights(logits_MNK[chosen], labels_N, space=settings.space)
    return replace(found, weights=weights_M)


def n_folds(recordings_N: NDArray[np.int64]) -> int:
    """How many parts of the recordings are left out, one after the other, to tell the optimism."""
    n_recordings = len(np.unique(recordings_N))
    return n_recordings if n_recordings <= FEW_RECORDINGS else FOLDS


def _agreement(logits_MNK: NDArray[np.floating]) -> NDArray[np.float64]:
    classes_MN = logits_MNK.argmax(axis=2)
    return np.stack([(classes_MN == classes_N).mean(axis=1) for classes_N in classes_MN])
