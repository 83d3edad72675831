"""The device that a task computes on."""

import os
import sys
from typing import TYPE_CHECKING

from jobs.schedule.workers import PRETENDED_GPUS

if TYPE_CHECKING:
    import torch


def find_device() -> "torch.device":
    """Return this machine's GPU if it has one, else its CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def find_reserved_device() -> "torch.device":
    """Return the GPU that Ray reserved for this task, the first that it sees; else the CPU.

    The task can use the share of the GPU's memory that it reserved, and no more. Outside Ray, return
    this machine's GPU if it has one.
    """
    import torch

    if "ray" not in sys.modules:
        return find_device()
    import ray

    if not ray.is_initialized():
        return find_device()
    context = ray.get_runtime_context()
    if PRETENDED_GPUS in os.environ or not context.get_accelerator_ids()["GPU"]:
        return torch.device("cpu")
    # So that other tasks on the same GPU never lack memory.
    share = context.get_assigned_resources().get("GPU", 1.0)
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    return torch.device("cuda")
