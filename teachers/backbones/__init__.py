"""Backbones: frozen networks that say of a clip what they hear, as an embedding.

Nothing here imports torch: `teachers.backbones.embed` computes.
"""

from teachers.backbones.backbone import Backbone, LearntFrom, check_learnt, name_backbone
from teachers.backbones.errors import LeakyBackbone, UnknownBackbone
from teachers.backbones.find import find_backbone
from teachers.backbones.onnx_file import OnnxInput

__all__ = [
    "Backbone",
    "LeakyBackbone",
    "LearntFrom",
    "OnnxInput",
    "UnknownBackbone",
    "check_learnt",
    "find_backbone",
    "name_backbone",
]
