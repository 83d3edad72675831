"""How much of a GPU's arithmetic a training step uses, and the projected time for all teachers."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from audio.clips import SPLITS
from benchmarks.steps import Step
from teachers.recipes import PUBLISHED_TEACHERS, RECIPES

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
"""Dense bfloat16 operations by the start of the device's name, from NVIDIA's data sheets; the first
match counts."""
FORWARD_PASSES = 3
"""Number of forward passes that cost as much as a step."""
TRAINING_CLIPS = 139_620
"""Number of training clips of TAU 2022 Mobile's split 100."""


def find_peak_flops(device: torch.device) -> float | None:
    """Return the GPU's peak floating-point operations per second; None if it is not known here, or a CPU."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = [peak for start, peak in PEAK_TFLOPS.items() if name.startswith(start)]
    return known[0] * 1e12 if known else None


def count_step_flops(step: Step) -> int:
    """Return the operations of a step: three forward passes; a multiplication and addition are two.

    The backward pass counts as two forward passes, as is usual (Narayanan et al. 2021,
    arXiv:2104.04473). torch's counter agrees for PaSST (2.00) and CP-ResNet (2.08). It misjudges
    the backward pass of depthwise convolutions (28 forward passes for mn10), so it is not used.
    """
    inputs_BCFT, _ = step.get_random()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        step.model(inputs_BCFT)
    return FORWARD_PASSES * counter.get_total_flops()


def project_hours(clips_per_s: dict[str, float]) -> float:
    """Return the most hours that the 22 published teachers take on 5 splits, with all epochs.

    Args:
        clips_per_s: speed of whole steps, by the model's name.
    """
    seconds = 0.0
    for recipe in (RECIPES[name] for name in PUBLISHED_TEACHERS):
        for split in SPLITS:
            clips = recipe.training.max_epochs * TRAINING_CLIPS * split / 100
            seconds += clips / clips_per_s[recipe.model]
    return seconds / 3600
