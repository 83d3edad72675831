"""aiSFX: front-end and network against an independent writing of both in numpy."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from audio.front_ends import AISFX
from audio.log_mel import LogMel
from teachers import DamagedWeights, MissingWeights
from teachers.backbones import aisfx, aisfx_package, find_backbone
from teachers.backbones.aisfx import load_aisfx

GOLDEN = Path(__file__).parents[1] / "golden" / "aisfx" / "embeddings.npy"
"""float32 [2, 512]: what `embed_in_numpy` gave for `make_clips`."""
N_SAMPLES = 102_312


def make_clips() -> np.ndarray:
    """A second of a rising tone, and one of noise that fades, repeated to 2.32 s: float32 [2, S]."""
    seconds = np.arange(44_100) / 44_100
    tone = 0.4 * np.sin(2 * np.pi * (200 + 2_000 * seconds) * seconds)
    noise = 0.2 * np.random.default_rng(0).standard_normal(44_100) * np.exp(-3 * seconds)
    clips_BS = np.stack([tone, noise]).astype(np.float32)
    return np.tile(clips_BS, (1, 3))[:, :N_SAMPLES]


def log_mel_in_numpy(samples_S: np.ndarray) -> np.ndarray:
    """Return float64 [T, F]."""
    padded = np.pad(samples_S.astype(np.float64), 1024, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    power_TQ = np.abs(np.fft.rfft(sliding_window_view(padded, 2048)[::1024] * window)) ** 2
    top = 2595 * np.log10(1 + 22_050 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, 98) / 2595) - 1)
    bins = np.arange(1025) * 44_100 / 2048
    bank_QF = np.stack(
        [np.interp(bins, edges[i : i + 3], [0, 1, 0], left=0, right=0) for i in range(96)], axis=1
    )
    return np.log10(10_000 * power_TQ @ (bank_QF / bank_QF.sum(0)) + 1) / 9.4578


def embed_in_numpy(samples_S: np.ndarray) -> np.ndarray:
    """Return float32 [512]."""
    weights = {key: value.numpy() for key, value in load_aisfx().state_dict().items()}
    x_CTF = log_mel_in_numpy(samples_S)[None].astype(np.float32)
    for block in range(1, 5):
        for layer in (1, 2):
            name = f"conv_block{block}"
            x_CTF = convolve(x_CTF, weights[f"{name}.conv{layer}.weight"])
            mean, var, scale, shift = (
                weights[f"{name}.bn{layer}.{each}"][:, None, None]
                for each in ("running_mean", "running_var", "weight", "bias")
            )
            x_CTF = np.maximum((x_CTF - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)
        if block < 4:
            n_t, n_f = x_CTF.shape[1] // 2, x_CTF.shape[2] // 2
            halves = x_CTF[:, : 2 * n_t, : 2 * n_f].reshape(-1, n_t, 2, n_f, 2)
            x_CTF = halves.max((2, 4))
    return x_CTF.mean(2).max(1)


def convolve(x_CTF: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    n_t, n_f = x_CTF.shape[1:]
    padded = np.pad(x_CTF, ((0, 0), (1, 1), (1, 1)))
    found = np.zeros((len(kernel), n_t, n_f), dtype=np.float32)
    for i in range(3):
        for j in range(3):
            found += np.tensordot(kernel[:, :, i, j], padded[:, i : i + n_t, j : j + n_f], axes=1)
    return found


@torch.no_grad()
def test_embeddings_agree_with_an_independent_writing():
    clips_BS, golden_BD = make_clips(), np.load(GOLDEN)
    backbone = find_backbone("aisfx")
    assert backbone.choose_length(1.0).count_samples(1.0, 44_100) == N_SAMPLES
    log_mel_BCFT = LogMel(AISFX)(torch.from_numpy(clips_BS))
    assert log_mel_BCFT.shape == (2, 1, 96, 100)
    ours_BD = backbone.open(torch.device("cpu"))(log_mel_BCFT).numpy()
    np.testing.assert_allclose(ours_BD, golden_BD, rtol=0, atol=1e-3)
    np.testing.assert_allclose(embed_in_numpy(clips_BS[0]), golden_BD[0], rtol=0, atol=1e-4)


def test_the_weights_are_read_without_the_package_that_holds_them():
    load_aisfx()
    assert "aisfx" not in sys.modules


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code in weights was run",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch, capsys):
    file = tmp_path / "checkpoint.pth"
    torch.save(({"embedding_net.x": Evil()}, {}), file)
    monkeypatch.setattr(aisfx, "locate_checkpoint", lambda: file)
    with pytest.raises(pickle.UnpicklingError, match="print"):
        load_aisfx()
    assert capsys.readouterr().out == ""


def test_an_absent_or_another_package_is_named_with_the_way_out(tmp_path, monkeypatch):
    folder = tmp_path / "aisfx" / "models"
    monkeypatch.setattr(aisfx_package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingWeights, match=r"not installed\nInstall it: uv pip install --no-deps"
    ):
        find_backbone("aisfx")
    folder.mkdir(parents=True)
    (folder / "checkpoint.pth").write_bytes(b"other")
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(DamagedWeights, match=r"checkpoint.pth: sha256 .*, expected 499ea759"):
        find_backbone("aisfx")
