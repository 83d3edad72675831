"""A teacher's name -> its architecture, its published weights and their licence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from teachers.cp_resnet import CPResNet
from teachers.dymn import DyMN
from teachers.mobilenet import MobileNet
from teachers.weights import find_weights, load_weights

EFFICIENT_AT_RELEASE = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
PASST_RELEASES = "https://github.com/kkoutini/PaSST/releases/download/"
AUDIOSET = "audioset"


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A published architecture, and where its AudioSet weights are published."""

    make: Callable[..., nn.Module]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    audioset_weights: str | None = None
    """Address of the checkpoint; None: there is none, it is trained from scratch."""
    head: tuple[str, ...] = ()
    """Layers whose size depends on the classes, and which start anew for other classes."""
    licence: str = ""


def _passt(**arguments: Any) -> nn.Module:
    # hear21passt brings timm and torchvision: seconds and megabytes for this family alone.
    from teachers.passt import PaSST

    return PaSST(**arguments)


def _mobilenet(width: float, file: str) -> Architecture:
    return Architecture(
        make=MobileNet,
        arguments={"width": width},
        audioset_weights=EFFICIENT_AT_RELEASE + file,
        head=("classifier.5",),
        licence="MIT",
    )


def _dymn(width: float, file: str) -> Architecture:
    return Architecture(
        make=DyMN,
        arguments={"width": width},
        audioset_weights=EFFICIENT_AT_RELEASE + file,
        head=("classifier.5",),
        licence="MIT",
    )


CATALOGUE: dict[str, Architecture] = {
    "mn04_as": _mobilenet(0.4, "mn04_as_mAP_432.pt"),
    "mn05_as": _mobilenet(0.5, "mn05_as_mAP_443.pt"),
    "mn10_as": _mobilenet(1.0, "mn10_as_mAP_471.pt"),
    "dymn04_as": _dymn(0.4, "dymn04_as.pt"),
    "dymn10_as": _dymn(1.0, "dymn10_as.pt"),
    "passt": Architecture(
        make=_passt,
        audioset_weights=PASST_RELEASES + "v0.0.1-audioset/passt-s-f128-p16-s10-ap.476-swa.pt",
        head=("head.1", "head_dist"),
        licence="Apache-2.0",
    ),
    "cpr_128": Architecture(make=CPResNet, licence="MIT"),
}
"""Sources: EfficientAT and PaSST releases; CP-ResNet of cpjku_dcase22, base_channels 32."""


def build(
    name: str, *, n_classes: int, weights: str | Path | None = None, **arguments: Any
) -> nn.Module:
    """A teacher: (B, 1, F, T) -> (logits [B, K], embedding [B, D]).

    Args:
        name: one of CATALOGUE.
        n_classes: K; a head of another size in the weights is replaced by a fresh one.
        weights: "audioset" for the published ones, the path of a state dict, or None to start
            from the architecture's random initialisation.
        **arguments: overrides of the architecture's arguments.

    Raises:
        ValueError: no such teacher, or it has no published weights.
        MissingWeights: the published weights are not on this machine; says where to put them.
        UnfitWeights: the weights are of another architecture; lists the keys.
    """
    if name not in CATALOGUE:
        raise ValueError(f"no teacher {name}; there are: {', '.join(CATALOGUE)}")
    architecture = CATALOGUE[name]
    model = architecture.make(n_classes=n_classes, **{**architecture.arguments, **arguments})
    if weights is None:
        return model
    if weights == AUDIOSET:
        if architecture.audioset_weights is None:
            raise ValueError(f"teacher {name} has no AudioSet weights: it is trained from scratch")
        weights = find_weights(architecture.audioset_weights)
    load_weights(model, Path(weights), architecture.head)
    return model
