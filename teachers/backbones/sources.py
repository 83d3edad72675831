"""Where a backbone's weights are, as values that travel to workers; `open_network` loads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

OnnxLayout = Literal["BS", "BFT", "BTF", "B1FT", "B1TF"]
"""The dimensions of an input: B clips, S samples, F mel bands, T frames, one channel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedWeights:
    """A published checkpoint of `teachers.catalogue`."""

    model: str
    weights: str
    """What `teachers.catalogue.build` calls its weights."""
    n_classes: int
    """Of its head, which an embedding does without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTeacher:
    """A teacher of a store."""

    member: str
    model: str
    arguments: Mapping[str, Any]
    n_classes: int
    weights_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AisfxPackage:
    """The checkpoint in the package aisfx, which has to be installed where it is loaded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxNetwork:
    """A network in an ONNX file."""

    file: Path
    sha256: str
    layout: OnnxLayout
    n_clips: int | None
    """The only number of clips in a batch that it takes; None if it takes any."""
    output: str
    """Name of the output that is the embedding."""


Source = PublishedWeights | StoredTeacher | AisfxPackage | OnnxNetwork
