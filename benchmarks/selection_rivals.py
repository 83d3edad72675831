"""Other ways to select an ensemble, written from what their projects publish (M members, N clips, K classes)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

CANDIDATES_AT_ONCE = 8

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]


def select_greedily(
    n_members: int,
    n_steps: int,
    losses_of: Callable[[list[int], list[int]], list[float]],
) -> list[int]:
    """Choose the best candidate n_steps times; `losses_of` takes the chosen and the candidates."""
    chosen: list[int] = []
    for _ in range(n_steps):
        candidates = [m for m in range(n_members) if m not in chosen]
        chosen.append(candidates[int(np.argmin(losses_of(chosen, candidates)))])
    return chosen


def compute_naive_losses(
    logits_MNK: Floats, labels_N: Integers, chosen: list[int], candidates: list[int]
) -> list[float]:
    """Return the losses of candidates by the log-softmax of a running sum and each of them."""
    sum_NK, rows = logits_MNK[chosen].sum(axis=0), np.arange(len(labels_N))
    losses = []
    for m in candidates:
        mean_NK = (sum_NK + logits_MNK[m]) / (len(chosen) + 1)
        mean_NK -= mean_NK.max(axis=1, keepdims=True)
        logs_N = np.log(np.exp(mean_NK).sum(axis=1))
        losses.append(float((logs_N - mean_NK[rows, labels_N]).mean()))
    return losses


def compute_chunk_losses(
    logits_MNK: torch.Tensor, labels_N: torch.Tensor, chosen: list[int], candidates: list[int]
) -> list[float]:
    """Return the losses of candidates by logsumexp, CANDIDATES_AT_ONCE at a time."""
    sum_NK, losses = logits_MNK[chosen].sum(0), []
    for start in range(0, len(candidates), CANDIDATES_AT_ONCE):
        some = candidates[start : start + CANDIDATES_AT_ONCE]
        mean_CNK = (sum_NK + logits_MNK[some]) / (len(chosen) + 1)
        index_CN1 = labels_N.expand(len(some), -1)[..., None]
        losses_CN = mean_CNK.logsumexp(-1) - mean_CNK.gather(-1, index_CN1)[..., 0]
        losses += losses_CN.mean(-1).tolist()
    return losses


def compute_published_losses(
    files: list[Path], labels_N: torch.Tensor, chosen: list[int], candidates: list[int]
) -> list[float]:
    """Return the losses of candidates, each of which loads every file of its ensemble."""
    losses = []
    for m in candidates:
        logits_MNK = torch.stack([torch.load(files[member]) for member in [*chosen, m]])
        losses.append(cross_entropy(logits_MNK.mean(0), labels_N).item())
    return losses


def select_as_tabrepo(logits_MNK: Floats, labels_N: Integers, n_steps: int) -> list[int]:
    """Select by a running sum of the labels' probabilities, which needs one logarithm per clip."""
    n_members, n, _ = logits_MNK.shape
    likelihoods_MN, rows = np.empty((n_members, n), np.float32), np.arange(n)
    for likelihoods_N, logits_NK in zip(likelihoods_MN, logits_MNK, strict=True):
        powers_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
        likelihoods_N[:] = powers_NK[rows, labels_N] / powers_NK.sum(axis=1)
    chosen: list[int] = []
    sum_N = np.zeros(n, np.float32)
    for step in range(n_steps):
        share = np.float32(1 / (step + 1))
        losses = [-np.log((sum_N + row_N) * share).mean() for row_N in likelihoods_MN]
        chosen.append(int(np.argmin(losses)))
        sum_N += likelihoods_MN[chosen[-1]]
    return chosen


def select_as_autogluon(logits_MNK: Floats, labels_N: Integers, n_steps: int) -> list[int]:
    """Select as AutoGluon 1.x does, whose selection TabArena uses: by a running mean of probabilities.

    Each candidate's mean is written out and normalised again, and losses are rounded to six digits.
    """
    probabilities_MNK, rows = _apply_softmax(logits_MNK), np.arange(len(labels_N))
    mean_NK, candidate_NK = np.zeros((2, *probabilities_MNK[0].shape))
    chosen: list[int] = []
    for step in range(n_steps):
        if chosen:
            mean_NK *= (step - 1) / step
            mean_NK += probabilities_MNK[chosen[-1]] / step
        losses = []
        for probabilities_NK in probabilities_MNK:
            candidate_NK[:] = mean_NK * (step / (step + 1)) + probabilities_NK * (1 / (step + 1))
            candidate_NK /= candidate_NK.sum(axis=1, keepdims=True)
            losses.append(round(-float(np.log(candidate_NK[rows, labels_N]).mean()), 6))
        chosen.append(int(np.argmin(losses)))
    return chosen


def select_as_phem(logits_MNK: Floats, labels_N: Integers, n_steps: int) -> list[int]:
    """Select as phem and auto-sklearn do: by a running sum of probabilities, in two arrays."""
    probabilities_MNK, rows = _apply_softmax(logits_MNK), np.arange(len(labels_N))
    sum_NK, candidate_NK = np.zeros((2, *probabilities_MNK[0].shape))
    chosen: list[int] = []
    for step in range(n_steps):
        losses = []
        for probabilities_NK in probabilities_MNK:
            np.add(sum_NK, probabilities_NK, out=candidate_NK)
            np.multiply(candidate_NK, 1 / (step + 1), out=candidate_NK)
            losses.append(-float(np.log(candidate_NK[rows, labels_N]).mean()))
        chosen.append(int(np.argmin(losses)))
        sum_NK += probabilities_MNK[chosen[-1]]
    return chosen


def _apply_softmax(logits_MNK: Floats) -> Floats:
    powers_MNK = np.exp(logits_MNK - logits_MNK.max(axis=2, keepdims=True))
    return powers_MNK / powers_MNK.sum(axis=2, keepdims=True)
