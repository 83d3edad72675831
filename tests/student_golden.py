"""The published students' golden files: how their weights and inputs are made."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

GOLDEN = Path(__file__).parent / "golden" / "students"


def load(name):
    """Read a golden file of the students, for example `models/isotropic`."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def fill_by_key(model, golden, rule="key"):
    """Fill a model whose tensors have the published names."""
    state = model.state_dict()
    assert set(state) == {row["key"] for row in golden["tensors"]}
    for row in golden["tensors"]:
        assert row["crc32"] == zlib.crc32(row["key"].encode())
        _fill(state[row["key"]], row, rule)


def fill_by_position(model, golden, rule="pos"):
    """Fill a model whose tensors stand in the order of execution but have other names."""
    own = [t for key, t in model.state_dict().items() if not key.endswith("num_batches_tracked")]
    rows = sorted(
        (row for row in golden["tensors"] if row["pos"] is not None), key=lambda row: row["pos"]
    )
    for tensor, row in zip(own, rows, strict=True):
        _fill(tensor, row, rule)


def golden_input(kind, shape):
    """Return the `normal` or the `sine` input of a shape."""
    if kind == "normal":
        values = np.random.default_rng(0).standard_normal(shape)
    else:
        n, *rest = np.indices(shape)
        channel, frequency, frame = rest if len(rest) == 3 else (0, rest[0], 0)
        values = np.sin(0.05 * (frequency + 1) * (channel + 1) + n) * np.cos(0.3 * frame)
    return torch.from_numpy(values.astype(np.float32))


def assert_equals_golden(model: nn.Module, golden, rule, call=None):
    """Compare both golden inputs' logits, of the model or of a call, at the stated tolerance.

    Float32 rounding moves logits by up to 1.5e-6 and the mildest typical mistake by 5.6e-5.
    """
    model.eval()
    for kind in ("normal", "sine"):
        with torch.no_grad():
            logits = (call or model)(golden_input(kind, golden["golden_batch_shape"]))
        expected = torch.tensor(golden[f"logits_{rule}_{kind}"])
        torch.testing.assert_close(
            logits, expected, rtol=0, atol=1e-5 * max(1.0, expected.abs().max().item())
        )


def _fill(tensor, row, rule):
    """Fill a tensor; the rule, "key" or "pos", says what seeds the random values."""
    assert list(tensor.shape) == row["shape"], row["key"]
    if row["kind"] == "counter":
        tensor.zero_()
        return
    seed = row["crc32"] if rule == "key" else 20_240_000 + row["pos"]
    value = np.random.default_rng(seed).standard_normal(row["shape"]).astype(np.float32)
    small = np.float32(0.05)
    filled = {
        "weight": lambda: value / np.float32(np.sqrt(np.prod(row["shape"][1:]))),
        "bias": lambda: small * value,
        "scale": lambda: 1 + small * value,
        "mean": lambda: small * value,
        "var": lambda: 1 + small * np.abs(value),
        "low_var": lambda: np.float32(0.35) + small * np.abs(value),
        "share": lambda: np.float32(0.4) + small * value,
    }[row["kind"]]()
    tensor.copy_(torch.from_numpy(np.asarray(filled)))
