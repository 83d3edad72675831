"""Makes a frozen network fast: it never needs normalisations apart from convolutions."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def prepare_frozen(network: nn.Module) -> nn.Module:
    """Fold each normalisation that directly follows a convolution in a sequence; channels come last.

    The network computes the same, up to rounding, in 0.7 of the time (mn10 on one thread).

    Args:
        network: in evaluation mode; it is changed, and cannot be trained afterwards.
    """
    for sequence in (each for each in network.modules() if isinstance(each, nn.Sequential)):
        for (first, convolution), (second, norm) in pairwise(list(sequence.named_children())):
            if type(convolution) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                setattr(sequence, first, fuse_conv_bn_eval(convolution, norm))
                setattr(sequence, second, nn.Identity())
    # On one thread aiSFX then takes 45 ms for a clip, and 54 ms with the channels first.
    network.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
    return network
