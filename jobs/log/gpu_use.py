"""How busy the GPU is on which this process computes."""

import functools
import sys
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuUse:
    """A GPU at one moment, with the use that all processes make of it."""

    gpu: str
    """Name and UUID."""
    percent: float | None
    """Share of the last moments in which it was busy; None where the driver does not report it."""
    memory_bytes: int
    """In use."""
    total_bytes: int


def measure_gpu_use() -> GpuUse | None:
    """Return the use of the first GPU that this process sees; None while it uses none."""
    # A process that has not imported torch, which takes seconds, uses no GPU.
    if "torch" not in sys.modules:
        return None
    import torch

    # Any other question to torch would make this process use a GPU.
    if not torch.cuda.is_initialized():
        return None
    properties = torch.cuda.get_device_properties(0)
    free_bytes, total_bytes = torch.cuda.mem_get_info(0)
    return GpuUse(
        gpu=f"{properties.name} {properties.uuid}",
        percent=_measure_percent(f"GPU-{properties.uuid}"),
        memory_bytes=total_bytes - free_bytes,
        total_bytes=total_bytes,
    )


def _measure_percent(uuid: str) -> float | None:
    import pynvml

    try:
        _start_nvml()
        return float(pynvml.nvmlDeviceGetUtilizationRates(_find_handle(uuid)).gpu)
    except pynvml.NVMLError:
        # A slice of a GPU (MIG) does not report it, nor do some drivers in containers.
        return None


@functools.cache
def _start_nvml() -> None:
    import pynvml

    pynvml.nvmlInit()


@functools.cache
def _find_handle(uuid: str) -> object:
    import pynvml

    return pynvml.nvmlDeviceGetHandleByUUID(uuid)
