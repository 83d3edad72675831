"""Only what nobody needs is removed."""

from pathlib import Path

import numpy as np
import pytest

from disk.whole import hash_host
from logit_store import LogitKey, LogitStore
from logit_store.collect import find_garbage, remove_garbage

GARBAGE = {
    "teachers/v1/done-0123/checkpoint.pt": 10,
    "students/v1/done-0123/checkpoint.pt": 20,
    "teachers/v1/done-0123/part_2/checkpoint.pt": 25,
    "teachers/v1/done-0123/train/run/state.json": 30,
    "teachers/v1/done-0123/train/run/worker/0/notes": 40,
    "catalogue/v1/corpus=other/catalogue.parquet": 50,
}
KEPT = [
    "teachers/v1/done-0123/weights.safetensors",
    "teachers/v1/done-0123/record.json",
    "teachers/v1/done-0123/part_2/weights.safetensors",
    "teachers/v1/learning-0123/checkpoint.pt",
    "teachers/v1/learning-0123/part_1/checkpoint.pt",
    "teachers/v1/learning-0123/train/run/state.json",
    "weights/v1/mn10.pt/fetched.json",
    "ensembles/v1/corpus=tau/split=5/best.json",
]


@pytest.fixture
def littered(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    store.write(LogitKey("tau", 25, "done-0123"), logits_NK, {})
    store.members()
    for name, size in GARBAGE.items():
        store.files.put(name, b"x" * size)
    for name in KEPT:
        store.files.put(name, b"{}")
    # Nobody has locked it.
    left = Path(store.address) / f"logits/.1-{hash_host()}-00000000.tmp"
    left.write_bytes(b"x" * 60)
    return store


def everything(store: LogitStore) -> set[str]:
    root = Path(store.address)
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_exactly_the_files_shown_are_removed(littered: LogitStore) -> None:
    before = everything(littered)
    found = find_garbage(littered)
    assert everything(littered) == before
    sizes = {each.file: each.bytes for each in found}
    assert {name: sizes[name] for name in GARBAGE} == GARBAGE
    (temporary,) = sizes.keys() - GARBAGE.keys()
    assert sizes[temporary] == 60
    remove_garbage(littered, found)
    assert everything(littered) == before - sizes.keys()
    assert find_garbage(littered) == []


def test_a_store_in_use_has_no_garbage(store: LogitStore, logits_NK: np.ndarray) -> None:
    store.write(LogitKey("tau", 25, "m"), logits_NK, {})
    store.members()
    assert find_garbage(store) == []
