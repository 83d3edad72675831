"""Read the golden files of the teachers and fill models by the public rule that made them."""

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "golden" / "teachers" / "models"


def load_golden(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def filled_tensor(entry: Mapping[str, Any]) -> Tensor:
    """Return the tensor of one key: constant, or normal numbers seeded by the key itself."""
    shape = tuple(entry["shape"])
    dtype = np.dtype(entry["dtype"].removeprefix("torch.")).newbyteorder("<")
    if "const" in entry:
        values = np.broadcast_to(np.asarray(entry["const"]), shape).astype(dtype)
    else:
        z = _normal(entry["key"], shape)
        z = np.abs(z) if entry.get("abs") else z
        values = (entry["offset"] + entry["scale"] * z).astype(dtype)
    values = np.array(values, order="C")
    checksum = f"{zlib.crc32(values.tobytes()):08x}"
    if checksum != entry["crc32"]:
        raise ValueError(f"{entry['key']}: crc32 {checksum}, golden {entry['crc32']}")
    return torch.from_numpy(values)


def fill_by_key(model: nn.Module, keys: Iterable[Mapping[str, Any]]) -> None:
    """Give `model` the golden's parameters and buffers, each checked by its crc32 first."""
    model.load_state_dict({entry["key"]: filled_tensor(entry) for entry in keys}, strict=True)


def golden_input(golden: Mapping[str, Any]) -> Tensor:
    """Return the golden's input, float32 (B, 1, F, T): noise on one of two slow patterns."""
    n_clips, _, n_bands, n_frames = shape = tuple(golden["input"]["shape"])
    u = np.linspace(-1, 1, n_bands)[:, None]
    v = np.linspace(-1, 1, n_frames)[None, :]
    patterns = np.stack([(u * v, u * u - v)[clip % 2] for clip in range(n_clips)])
    noise = _normal(golden["input"]["seed_string"], shape)
    x = (0.7 * noise + 1.5 * patterns[:, None]).astype("<f4")
    checksum = f"{zlib.crc32(x.tobytes()):08x}"
    if checksum != golden["input"]["crc32_of_float32_bytes"]:
        raise ValueError(f"input of {golden['name']}: crc32 {checksum}")
    return torch.from_numpy(x)


def _normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
