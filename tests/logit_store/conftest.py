"""A small corpus, its logits, and processes that use a store (N clips, K classes)."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from s3_servers import BUCKET, S3Server, weed

from logit_store import LogitKey, LogitStore

PROJECT = Path(__file__).resolve().parents[2]
SCENES = ("airport", "metro station", 'park "city"', "tram's")
DEVICES = ("a", "b", "s1")
FOLDS = ("fit", "fit", "select", "test", None)

MakeClips = Callable[..., pa.Table]
StartPython = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def make_clips() -> MakeClips:
    def make(n: int = 60, scenes: Sequence[str] = SCENES, seed: int = 0) -> pa.Table:
        rng = np.random.default_rng(seed)
        # Every scene occurs, in random order.
        scene_N = [scenes[i] for i in rng.permutation(np.arange(n) % len(scenes))]
        fold_N = pa.array([FOLDS[i] for i in rng.integers(0, len(FOLDS), n)], pa.string())
        columns = {
            "row": pa.array(range(n), pa.int32()),
            "clip_id": [f"clip-{seed}-{i}" for i in range(n)],
            "scene": scene_N,
            "recording": [f"recording-{i // 10}" for i in range(n)],
            "city": [("lyon", "oslo")[i % 2] for i in range(n)],
            "recording_device": [DEVICES[i] for i in rng.integers(0, len(DEVICES), n)],
            "fold_5": pa.nulls(n, pa.string()),
        }
        return pa.table(columns | {f"fold_{split}": fold_N for split in (10, 25, 50, 100)})

    return make


@pytest.fixture
def clips(make_clips: MakeClips) -> pa.Table:
    return make_clips()


@pytest.fixture
def logits_NK() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 5, (60, len(SCENES))).astype(np.float32)


@pytest.fixture
def key() -> LogitKey:
    return LogitKey("tau", 25, "mn10-0123456789ab")


@pytest.fixture
def store(tmp_path: Path, clips: pa.Table) -> LogitStore:
    """A store that knows the corpus, without logits."""
    store = LogitStore(tmp_path / "store")
    store.write_clips("tau", clips)
    return store


@pytest.fixture
def labels_N(clips: pa.Table) -> np.ndarray:
    return np.array([sorted(SCENES).index(scene) for scene in clips["scene"].to_pylist()])


@pytest.fixture
def start_python() -> StartPython:
    """Start a script, or `-m` a module, in another process."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "error"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def weed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with weed(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture
def s3_address(weed_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty store on a real server, which the variables name."""
    weed_server.name_in(monkeypatch)
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    return f"s3://{BUCKET}/{tmp_path.name}-{secrets.token_hex(4)}"
