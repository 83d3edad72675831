import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import ray_settings
from filelock import FileLock

import ensemble

# Before any test imports Ray, which reads then whether it uses a token.
import jobs  # noqa: F401

os.environ.update(ray_settings.ENVIRONMENT)


@pytest.fixture(scope="session")
def compiled():
    """Compile what selection needs, or wait until another test process has: numba keeps it in files."""
    logits_MNK = np.random.default_rng(0).normal(size=(4, 60, 3)).astype(np.float32)
    labels_N, recordings_N = np.arange(60) % 3, np.arange(60) // 6
    with FileLock(Path(tempfile.gettempdir()) / "tutti-tests-compile.lock"):
        for kind in (np.float64, np.float32, np.float16):
            given_MNK = logits_MNK.astype(kind)
            for space in ("logits", "probabilities"):
                ensemble.select(given_MNK, labels_N, space=space)
                ensemble.convex_weights(given_MNK, labels_N, space=space)
            for metric in ("macro_accuracy", "brier"):
                ensemble.select(given_MNK, labels_N, metric=metric)
            ensemble.bagged(given_MNK, labels_N, recordings_N, n_bags=2)
            ensemble.soft_labels(given_MNK, weights_M=[0.25] * 4, temperature=2)
            ensemble.temperatures(given_MNK, labels_N)
