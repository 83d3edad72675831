"""A plain version of selection: every candidate is computed from scratch, in float64.

M members, N clips, K classes.
"""

from collections.abc import Sequence

import numpy as np

from metrics import log_loss, macro_accuracy

EQUAL = 1e-12
"""Losses this close are equal; far above the rounding of float64, far below any gain."""


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def slow_loss(
    logits_MNK: np.ndarray, labels_N: np.ndarray, space: str = "logits", metric: str = "log_loss"
) -> float:
    """Return the loss of the mean of all these members."""
    logits, rows = logits_MNK.astype(np.float64), np.arange(len(labels_N))
    mean_NK = (logits if space == "logits" else softmax(logits)).mean(axis=0)
    if metric == "macro_accuracy":
        return 1 - macro_accuracy(mean_NK, labels_N)
    if metric == "brier":
        soft_NK = softmax(mean_NK) if space == "logits" else mean_NK
        return float(((soft_NK - np.eye(soft_NK.shape[1])[labels_N]) ** 2).sum(axis=1).mean())
    if space == "logits":
        return log_loss(mean_NK, labels_N)
    likelihoods_MN = np.maximum(softmax(logits)[:, rows, labels_N], 1e-30)
    return float(-np.log(likelihoods_MN.mean(axis=0)).mean())


def slow_select(
    logits_MNK: np.ndarray,
    labels_N: np.ndarray,
    *,
    space: str = "logits",
    metric: str = "log_loss",
    with_replacement: bool = False,
    max_members: int = 50,
    patience: int = 0,
    required: Sequence[int] = (),
    forbidden: Sequence[int] = (),
) -> tuple[tuple[int, ...], list[float]]:
    """Return the members and the losses along the best path."""

    def loss_of(members: Sequence[int]) -> float:
        return slow_loss(logits_MNK[list(members)], labels_N, space, metric)

    members = list(required)
    path = [loss_of(members[: n + 1]) for n in range(len(members))]
    best, fruitless = len(members), 0
    while len(members) < max_members and fruitless <= patience:
        candidates = [
            m
            for m in range(len(logits_MNK))
            if m not in forbidden and (with_replacement or m not in members)
        ]
        if not candidates:
            break
        losses = [loss_of([*members, m]) for m in candidates]
        found = next(i for i, loss in enumerate(losses) if same_or_lower(loss, min(losses)))
        members.append(candidates[found])
        path.append(losses[found])
        if best == 0 or not same_or_lower(path[best - 1], path[-1]):
            best, fruitless = len(members), 0
        else:
            fruitless += 1
    return tuple(members[:best]), path[:best]


def same_or_lower(loss: float, other: float) -> bool:
    return loss <= other + EQUAL * max(1, abs(other))


def problem(
    n_members: int, n: int, n_classes: int = 10, seed: int = 0, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return members of different quality that share some of their mistakes, and the labels."""
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, n_classes, n)
    shared_NK = rng.normal(0, 1.5, (n, n_classes))
    own_MNK = rng.normal(0, 1, (n_members, n, n_classes)) * rng.uniform(1, 3, (n_members, 1, 1))
    true_NK = 2.0 * np.eye(n_classes)[labels_N]
    return ((true_NK + shared_NK + own_MNK) * scale).astype(np.float32), labels_N
