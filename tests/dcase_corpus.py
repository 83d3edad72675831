"""A development set and evaluation sets in the challenge's layout, of noise, and untrained students of ten scenes."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.torch
import soundfile
import torch
from corpus_files import write_table
from tiny import FRONT_END

from audio.corpora import tau, tau_evaluation
from logit_store import LogitKey, LogitStore
from report.dcase.challenge import CHALLENGE_SCENES, RECORDING_DEVICES
from students import build
from training import locate_weights

N_CLIPS = 12
SPLITS = (5, 10, 25, 50, 100)
SIZE = {"filters": 8, "depth": 1, "patch": 4}


def write_challenge(data: Path) -> Path:
    """Write a development set, and beside it the evaluation sets of 2024 and 2025; return the first."""
    root = data / "development"
    (root / "split_setup").mkdir(parents=True)
    train = [clip(scene, place, "a") for scene in CHALLENGE_SCENES for place in (1, 2, 3)]
    test = [clip(scene, 4, device) for scene in CHALLENGE_SCENES for device in RECORDING_DEVICES]
    write_table(root / "meta.csv", tau.META_COLUMNS, [*train, *test])
    noise = np.random.default_rng(0)
    (root / "audio").mkdir()
    for file, *_ in (*train, *test):
        soundfile.write(root / file, 0.1 * noise.standard_normal(8_000), 8_000)
    for name in (*(f"split{split}" for split in SPLITS), "test"):
        listed = [row[:2] for row in (test if name == "test" else train)]
        write_table(root / "split_setup" / f"{name}.csv", tau.LIST_COLUMNS, listed)
    for folder in (tau_evaluation.FOLDER, tau_evaluation.FOLDER_OF_2025):
        _write_evaluation(root.parent / folder, noise)
    return root


def _write_evaluation(evaluation: Path, noise: np.random.Generator) -> None:
    (evaluation / "audio").mkdir(parents=True)
    (evaluation / "evaluation_setup").mkdir()
    for number in range(N_CLIPS):
        samples = 0.1 * noise.standard_normal(16_000)
        soundfile.write(evaluation / "audio" / f"{number}.wav", samples, 16_000)
    header: tuple[str, ...] = ("filename",)
    rows: list[tuple[str, ...]] = [(f"audio/{number}.wav",) for number in range(N_CLIPS)]
    if evaluation.name == tau_evaluation.FOLDER_OF_2025:
        header = ("filename", "device_id")
        rows = [(name, ("a", "s9", "b")[place % 3]) for place, (name,) in enumerate(rows)]
    write_table(evaluation / "evaluation_setup" / "fold1_test.csv", header, rows)


def clip(scene: str, place: int, device: str) -> tuple[str, str, str, str]:
    """Return the row of a clip in meta.csv."""
    file = f"audio/{scene}-lyon-{CHALLENGE_SCENES.index(scene)}{place}-0-0-{device}.wav"
    return file, scene, f"lyon-{CHALLENGE_SCENES.index(scene)}{place}", device


def add_student(
    store: LogitStore,
    split: int,
    member: str,
    *,
    seed: int = 0,
    sure: float = 1.0,
    protocol: str = "honest",
    **size: int,
) -> LogitKey:
    """Store an untrained student, with logits that are right with the given certainty."""
    torch.manual_seed(seed + split)
    arguments = SIZE | size
    student = build("isotropic", n_classes=10, **arguments)
    weights = safetensors.torch.save(student.state_dict())
    store.objects.write(locate_weights("student", member_of(member, split)), weights)
    recipe = {"name": "tiny", "model": "isotropic", "arguments": arguments}
    record = {
        "kind": "student",
        "protocol": protocol,
        "recipe": recipe | {"front_end": asdict(FRONT_END)},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    labels = [
        CHALLENGE_SCENES.index(scene) for scene in store.read_clips("tau")["scene"].to_pylist()
    ]
    rng = np.random.default_rng(split)
    logits_NK = sure * np.eye(10)[labels] + rng.standard_normal((len(labels), 10))
    key = LogitKey("tau", split, member_of(member, split))
    store.write(key, logits_NK, record)
    return key


def member_of(member: str, split: int) -> str:
    """Return the name of a member with a fingerprint that names its split."""
    return f"{member}{split:011d}"
