"""A module's logits, and how good they are on the clips that decide about its run.

Dimensions: B clips in a batch, N clips, K classes, C channels, F mel bands, T frames.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from metrics import log_loss, main_score
from training.parallel import WorkerGroup
from training.parts import join_logits
from training.recipe import find_judging_fold
from training.run import ForwardPass, Run

JUDGE_CACHE_BYTES = 512 * 1024**2
"""Inputs of the judging clips up to this size are computed once, not once per epoch."""


@torch.no_grad()
def predict(module: nn.Module, compute_logits: ForwardPass, inputs: Iterable[Tensor]) -> np.ndarray:
    """Return the logits of batches of inputs [B, C, F, T], concatenated: float32 [N, K]."""
    module.eval()
    return torch.cat([compute_logits(inputs_BCFT).float() for inputs_BCFT in inputs]).cpu().numpy()


def predict_rows(run: Run, rows: np.ndarray, view: int = 0) -> np.ndarray:
    """Return the logits of one view of these clips, by all workers together: float32 [N, K]."""
    parts = run.parts
    if parts is None:
        return _predict_alone(run, rows, view)

    def predict_part(part: int, places: np.ndarray) -> np.ndarray:
        parts.load(part)
        return _predict_alone(run, rows[places], view)

    return join_logits(parts.find(run.feed.corpus.name, rows), parts.n_parts, predict_part)


def _predict_alone(run: Run, rows: np.ndarray, view: int) -> np.ndarray:
    """Return the logits of the run's module with the weights that it has."""
    own = rows[WorkerGroup.current().share(len(rows))]
    own_NK = predict(run.module, run.compute_logits, run.feed.iterate_batches(own, view))
    return _gather(own_NK, len(rows), run.feed.device)


class Judge:
    """Measures a run's module on the clips that decide about the run."""

    def __init__(self, run: Run) -> None:
        self._run, self.fold = run, find_judging_fold(run.protocol)
        rows = run.feed.corpus.rows(run.split, self.fold)
        self._labels_N = run.feed.corpus.truth()[rows]
        self.score = "mAP" if self._labels_N.ndim == 2 else "macro accuracy"
        self._rows = rows[WorkerGroup.current().share(len(rows))]
        self._cached: list[Tensor] | None = None
        if run.feed.count_input_bytes(self._rows) <= JUDGE_CACHE_BYTES:
            self._cached = list(run.feed.iterate_batches(self._rows))

    def measure(self) -> tuple[float, float]:
        """Return the log loss in nats and the main score, `score`, in 0...1."""
        run = self._run
        inputs = self._cached or run.feed.iterate_batches(self._rows)
        own_NK = predict(run.module, run.compute_logits, inputs)
        logits_NK = _gather(own_NK, len(self._labels_N), run.feed.device)
        return log_loss(logits_NK, self._labels_N), main_score(logits_NK, self._labels_N)


def _gather(own_NK: np.ndarray, n: int, device: torch.device) -> np.ndarray:
    return WorkerGroup.current().gather(torch.from_numpy(own_NK).to(device), n).cpu().numpy()
