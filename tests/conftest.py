import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import ray_settings

# First of all: Ray reads at its import whether it uses a token.
import jobs  # noqa: F401
from disk import hold_lock

os.environ.update(ray_settings.ENVIRONMENT)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs a Ray cluster; `make test` collects these files in a process of their own."""
    if item.path.name.endswith("_on_ray.py"):
        item.add_marker("ray")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts of tests that try much, also those of other test processes."""
    for report in terminalreporter.getreports("passed"):
        for text in (value for name, value in report.user_properties if name == "printed"):
            terminalreporter.write_line(f"{report.nodeid}\n{text}")


@pytest.fixture(scope="session")
def compiled():
    """Compile what selection needs, or wait for the test process that does: numba caches it in files."""
    import ensemble

    logits_MNK = np.random.default_rng(0).normal(size=(4, 60, 3)).astype(np.float32)
    labels_N, recordings_N = np.arange(60) % 3, np.arange(60) // 6
    with hold_lock(Path(tempfile.gettempdir()) / "tutti-tests-compile.lock"):
        for kind in (np.float64, np.float32, np.float16):
            given_MNK = logits_MNK.astype(kind)
            for space in ("logits", "probabilities"):
                ensemble.select(given_MNK, labels_N, space=space)
                ensemble.convex_weights(given_MNK, labels_N, space=space)
            for metric in ("macro_accuracy", "brier"):
                ensemble.select(given_MNK, labels_N, metric=metric)
            ensemble.select_in_bags(given_MNK, labels_N, recordings_N, n_bags=2)
            ensemble.soft_labels(given_MNK, weights_M=[0.25] * 4, temperature=2)
            ensemble.fit_temperatures(given_MNK, labels_N)
