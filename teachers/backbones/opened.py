"""Loads the network of a backbone, frozen (B clips in a batch, D embedding)."""

import hashlib
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor, nn

from logit_store import LogitStore
from teachers.backbones.aisfx import load_aisfx
from teachers.backbones.aisfx_package import CHECKPOINT_SHA256
from teachers.backbones.folding import prepare_frozen
from teachers.backbones.sources import (
    AisfxPackage,
    OnnxNetwork,
    PublishedWeights,
    Source,
    StoredTeacher,
)
from teachers.catalogue import build, fetch_weights
from teachers.fetched import hash_file
from teachers.weights import load_weights
from training.stored_weights import fetch_weights as fetch_stored_weights


@dataclass(frozen=True, eq=False, slots=True)
class OpenBackbone:
    """The network of a backbone, in memory."""

    network: nn.Module
    """Inputs -> embedding [B, D], in evaluation mode, without gradients."""
    weights_sha256: str
    """Of the file, or of the tensors (as safetensors writes them) where a library has the file."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return embeddings, float32 [B, D], of log-mels [B, C, F, T] or waveforms [B, S]."""
        with torch.inference_mode():
            return self.network(inputs).float()


class TeacherEmbedding(nn.Module):
    """The second thing that a frozen teacher gives: log-mels (B, 1, F, T) -> embedding (B, D)."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = prepare_frozen(teacher.eval())

    def forward(self, log_mel_BCFT: Tensor) -> Tensor:
        """Return the embedding."""
        return self.teacher(log_mel_BCFT)[1]


def open_network(source: Source, device: torch.device, store: LogitStore | None) -> OpenBackbone:
    """Load the network of a backbone; see `Backbone.open`."""
    network, sha256 = _load(source, store)
    network.requires_grad_(False).eval().to(device)
    return OpenBackbone(network, sha256)


def _load(source: Source, store: LogitStore | None) -> tuple[nn.Module, str]:
    match source:
        case AisfxPackage():
            return prepare_frozen(load_aisfx().eval()), CHECKPOINT_SHA256
        case PublishedWeights():
            return _load_published(source, store)
        case StoredTeacher():
            return _load_stored(source, store)
        case OnnxNetwork():
            # ONNX Runtime is imported only for its files.
            from teachers.backbones.onnx_network import OnnxModule

            return OnnxModule(source), source.sha256


def _load_published(source: PublishedWeights, store: LogitStore | None) -> tuple[nn.Module, str]:
    file = fetch_weights(source.model, source.weights, store)
    teacher = build(source.model, n_classes=source.n_classes, weights=source.weights, store=store)
    sha256 = _hash_tensors(teacher) if file is None else hash_file(file)
    return TeacherEmbedding(teacher), sha256


def _load_stored(source: StoredTeacher, store: LogitStore | None) -> tuple[nn.Module, str]:
    if store is None:
        raise ValueError(f"backbone {source.member} is a teacher of a store: give the store")
    teacher = build(source.model, n_classes=source.n_classes, weights="none", **source.arguments)
    load_weights(teacher, fetch_stored_weights(store, "teacher", source.member), ())
    return TeacherEmbedding(teacher), source.weights_sha256


def _hash_tensors(module: nn.Module) -> str:
    tensors = {key: value.contiguous() for key, value in module.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(tensors)).hexdigest()
