"""A student as an ExecuTorch program, where that package is installed.

Dimensions: C channels, F mel bands, T frames, K classes.
"""

import copy
import importlib
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import torch
from torch import nn


class MissingExecuTorch(ImportError):
    """The package is not installed, or not for the installed torch."""


def program(student: nn.Module, input_shape: Sequence[int]) -> bytes:
    """A student in float32 for one clip at a time, with the kernels of XNNPACK.

    Args:
        student: stays as it is.
        input_shape: of one clip, (1, C, F, T).

    Raises:
        MissingExecuTorch: the package is not there.
    """
    exir = _part("executorch.exir")
    xnnpack = _part("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    example = (torch.zeros(tuple(input_shape)),)
    partitioners = [xnnpack.XnnpackPartitioner()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
        passed = torch.export.export(copy.deepcopy(student).cpu().eval(), example)
        lowered = exir.to_edge_transform_and_lower(passed, partitioner=partitioners)
        return lowered.to_executorch().buffer


def runner(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """From log-mels [1, C, F, T] to logits [1, K], by a program on ExecuTorch's own runtime.

    Raises:
        MissingExecuTorch: the package is not there.
    """
    runtime = _part("executorch.runtime")
    method = runtime.Runtime.get().load_program(content).load_method("forward")
    return lambda one_clip: method.execute([torch.from_numpy(one_clip)])[0].numpy()


def _part(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExecuTorch(
            f"{name} cannot be imported ({error}): install executorch in the version for torch "
            f"{torch.__version__.partition('+')[0]}, or choose one of the forms onnx, onnx-fp16, "
            "onnx-int8"
        ) from error
