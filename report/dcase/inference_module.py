"""The functions that DCASE 2025 task 1 asks of a submission; `report.dcase.inference` packs this module.

In a package it is called as its label, beside `ckpts` with the weights and `models` with the networks; it
imports nothing else of the project. Dimensions: B clips, C channels, F mel bands, T frames, K classes,
S samples.
"""

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor, nn

from audio.front_ends import FrontEnd
from audio.log_mel import LogMel
from students.branches import fold_branches

FULL_SCALE = 32768
"""Clips are rounded to 16 bits, as those that the networks learnt from."""
CLIPS_AT_A_TIME = 512
READERS = 8
"""Threads that read files."""


class DeviceModels(nn.Module):
    """A network for each known recording device, and a general one for all others."""

    def __init__(self, general: nn.Module, by_device: dict[str, nn.Module]) -> None:
        super().__init__()
        self.general = general
        self.by_device = nn.ModuleDict(by_device)

    def find(self, device_id: str) -> nn.Module:
        """Return the network for a recording device."""
        # A ModuleDict has no `get`.
        return self.by_device[device_id] if device_id in self.by_device else self.general  # noqa: SIM401


class Submission(nn.Module):
    """What `load_model` returns: the networks, and how a waveform becomes their input."""

    def __init__(self, checkpoint: dict[str, Any]) -> None:
        super().__init__()
        self.front_end = FrontEnd(**checkpoint["front_end"])
        self.class_order: list[str] = list(checkpoint["classes"])
        self.log_mel = LogMel(self.front_end)
        general, *specific = (_build(checkpoint, weights) for weights in checkpoint["weights"])
        self.model = DeviceModels(general, dict(zip(checkpoint["devices"], specific, strict=True)))
        if checkpoint["precision"] == "fp16":
            self.model.half()


def load_model(model_file_path: str | None = None) -> Submission:
    """Load the networks, from the file in the package if no other is named."""
    label = __name__.rpartition(".")[2]
    file = model_file_path or Path(__file__).parent / "ckpts" / f"{label}.ckpt"
    return Submission(torch.load(file, map_location="cpu", weights_only=True)).eval()


def load_inputs(file_paths: list[str], device_ids: list[str], model: Submission) -> list[Tensor]:
    """Return the input of the networks for each file, (1, C, F, T), on the CPU.

    Raises:
        ValueError: there are not as many device ids as files.
    """
    if len(file_paths) != len(device_ids):
        raise ValueError(f"{len(file_paths)} files and {len(device_ids)} device ids")
    where = model.log_mel.window.device
    with ThreadPoolExecutor(READERS) as readers:
        clips = readers.map(lambda file: _read(file, model.front_end.sample_rate), file_paths)
        with torch.no_grad():
            return [
                model.log_mel(torch.from_numpy(clip_S)[None].to(where)).cpu() for clip_S in clips
            ]


def get_model_for_device(model: Submission, device_id: str) -> nn.Module:
    """Return the network for a recording device; for one that is not known, the general network."""
    return model.model.find(device_id)


def predict(
    file_paths: list[str],
    device_ids: list[str],
    model_file_path: str | None = None,
    use_cuda: bool = True,
) -> tuple[list[Tensor], list[str]]:
    """Return the logits of each file, [K], in the order of the files, and the names of the classes.

    The weights are as stored, and products are in float32.
    """
    device = torch.device("cuda" if use_cuda and torch.cuda.is_available() else "cpu")
    model = load_model(model_file_path).to(device)
    known = [each if each in model.model.by_device else "" for each in device_ids]
    networks = {
        each: copy.deepcopy(get_model_for_device(model, each)).float() for each in set(known)
    }
    logits: dict[int, Tensor] = {}
    for start in range(0, len(file_paths), CLIPS_AT_A_TIME):
        part = slice(start, start + CLIPS_AT_A_TIME)
        inputs = load_inputs(file_paths[part], device_ids[part], model)
        for places, batch_BCFT in _batch(inputs, known[part]):
            with torch.no_grad():
                found_BK = networks[known[start + places[0]]](batch_BCFT.to(device)).cpu()
            logits |= {start + place: each for place, each in zip(places, found_BK, strict=True)}
    return [logits[place] for place in range(len(file_paths))], model.class_order


def _batch(inputs: Sequence[Tensor], known: Sequence[str]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield the places and the inputs of clips of one network and one length."""
    groups: dict[tuple[str, torch.Size], list[int]] = {}
    for place, (each, name) in enumerate(zip(inputs, known, strict=True)):
        groups.setdefault((name, each.shape), []).append(place)
    for places in groups.values():
        yield places, torch.cat([inputs[place] for place in places])


def _build(checkpoint: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    module, _, name = checkpoint["network"].partition(".")
    networks = import_module(f"{__package__}.models.students.{module}")
    n_classes = len(checkpoint["classes"])
    network = getattr(networks, name)(n_classes=n_classes, **checkpoint["arguments"])
    network.load_state_dict(weights)
    return fold_branches(network.eval())


def _read(file: str, sample_rate: int) -> np.ndarray:
    """Return the mean of a file's channels at a sample rate, float32 [S] within -1...1."""
    samples, file_rate = soundfile.read(file, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    n_samples = round(len(mono) * sample_rate / file_rate)
    if file_rate != sample_rate:
        mono = soxr.resample(mono, file_rate, sample_rate, quality="HQ")
    clip_S = np.zeros(n_samples, dtype=np.float32)
    clip_S[: len(mono)] = mono[:n_samples]
    scaled = np.clip(np.rint(clip_S * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    return (scaled / FULL_SCALE).astype(np.float32)
