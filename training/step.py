"""One optimiser step, the same for teachers, students, dry steps and benchmarks."""

from collections.abc import Callable

import torch
from torch import Tensor


def descend(
    loss_of: Callable[[], Tensor], optimizer: torch.optim.Optimizer, device: torch.device
) -> Tensor:
    """Take one step down the gradient of a loss.

    Args:
        loss_of: forward pass, to a loss on the device.
        optimizer: of the parameters.
        device: on a GPU products are in bfloat16, which needs no loss scaling; weights are float32.

    Returns:
        The loss, detached and still on its device.
    """
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        loss = loss_of()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()
