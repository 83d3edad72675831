"""How busy the GPU is on which this process computes."""

import functools
from dataclasses import dataclass

import torch

# The copy that Ray brings along for its own metrics: no package more.
from ray._private.thirdparty import pynvml


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuUse:
    """A GPU at one moment; what all processes on it do."""

    gpu: str
    """Name and UUID."""
    percent: float | None
    """Share of the last moments in which it was busy; None where the driver does not tell."""
    memory_bytes: int
    """In use."""
    total_bytes: int


def gpu_use() -> GpuUse | None:
    """Of the first GPU that this process sees; None while it uses none."""
    # Asking torch for anything else would make it use one.
    if not torch.cuda.is_initialized():
        return None
    properties = torch.cuda.get_device_properties(0)
    free_bytes, total_bytes = torch.cuda.mem_get_info(0)
    return GpuUse(
        gpu=f"{properties.name} {properties.uuid}",
        percent=_percent(f"GPU-{properties.uuid}"),
        memory_bytes=total_bytes - free_bytes,
        total_bytes=total_bytes,
    )


def _percent(uuid: str) -> float | None:
    try:
        _start()
        return float(pynvml.nvmlDeviceGetUtilizationRates(_handle(uuid)).gpu)
    except pynvml.NVMLError:
        # A slice of a GPU (MIG) does not tell, nor do some drivers in containers.
        return None


@functools.cache
def _start() -> None:
    pynvml.nvmlInit()


@functools.cache
def _handle(uuid: str) -> object:
    return pynvml.nvmlDeviceGetHandleByUUID(uuid)
