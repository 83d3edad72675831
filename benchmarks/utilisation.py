"""How much of a GPU's arithmetic a training step uses, and how long all teachers would take."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.steps import Step
from teachers.recipes import PUBLISHED, RECIPES

PEAK_TFLOPS = {
    "NVIDIA B200": 2250.0,
    "NVIDIA H200": 989.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100": 989.0,
    "NVIDIA A100": 312.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA L4": 121.0,
    "NVIDIA GeForce RTX 4090": 165.0,
}
"""Dense bfloat16 products by the start of the device's name, from NVIDIA's data sheets; the first
that fits counts."""
FORWARD_PASSES = 3
"""That a step is worth."""
SPLITS = (5, 10, 25, 50, 100)
TRAINING_CLIPS = 139_620
"""Of TAU 2022 Mobile's split 100."""


def peak_flops(device: torch.device) -> float | None:
    """Floating-point operations a second that the GPU is sold with; None for one unknown here."""
    name = torch.cuda.get_device_name(device)
    known = [peak for start, peak in PEAK_TFLOPS.items() if name.startswith(start)]
    return known[0] * 1e12 if known else None


def step_flops(step: Step) -> int:
    """Operations of a step, a multiplication and an addition counted as two: three forward passes.

    The backward pass counts as two, as is usual (Narayanan et al. 2021, arXiv:2104.04473). torch's
    counter says the same of PaSST (2.00) and CP-ResNet (2.08); of depthwise convolutions it
    misjudges the backward pass (28 forward passes for mn10), so that is not counted with it.
    """
    inputs_BCFT, _ = step.random()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        step.model(inputs_BCFT)
    return FORWARD_PASSES * counter.get_total_flops()


def projected_hours(clips_per_s: dict[str, float]) -> float:
    """Training of the 22 published teachers on 5 splits, all epochs: an upper bound.

    Args:
        clips_per_s: of whole steps, by the model's name.
    """
    seconds = 0.0
    for recipe in (RECIPES[name] for name in PUBLISHED):
        for split in SPLITS:
            clips = recipe.training.max_epochs * TRAINING_CLIPS * split / 100
            seconds += clips / clips_per_s[recipe.model]
    return seconds / 3600
