"""Any network of the timm library as a teacher (B clips in a batch, K classes, D embedding, F, T)."""

import contextlib
import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, adapt_input_conv
from torch import Tensor, nn

from teachers.errors import MissingWeights

SHORTEST_FRAMES = 32
"""Most of these networks halve their input five times."""


def make_timm_backbone(
    n_classes: int,
    name: str,
    *,
    pretrained: bool = False,
    input_shape: tuple[int, int] | None = None,
) -> nn.Module:
    """A timm model for log-mels: (B, 1, F, T) -> logits (B, K), embedding (B, D).

    It is timm's own module with timm's own keys; the embedding is the input of its last layer. To
    take spectrograms, the first convolution is summed over its three colours.

    Args:
        n_classes: K.
        name: timm's name, with or without the tag of the weights (`convnext_nano.in12k`).
        pretrained: start from timm's weights, except for the last layer.
        input_shape: (F, T) for networks that take inputs of only one size; with None, those that
            can (vision transformers) take any.

    Raises:
        ValueError: no such model, one that does not separate its embedding from its logits, or
            one that takes inputs of only one size, which is not given or not `input_shape`.
        MissingWeights: timm's weights are not on this machine and could not be fetched.
    """
    if n_classes < 1:
        raise ValueError(f"n_classes is {n_classes}, expected at least 1")
    config = find_pretrained_config(name)
    create = functools.partial(
        _create_model, name, config, in_chans=1, num_classes=n_classes, pretrained=pretrained
    )
    net = _create_fixed_size(name, create, input_shape) if config.fixed_input_size else create()
    if input_shape is not None and not config.fixed_input_size:
        raise ValueError(f"timm:{name} takes inputs of any size: leave input_shape out")
    if "pre_logits" not in inspect.signature(net.forward_head).parameters:
        raise ValueError(
            f"timm:{name} does not separate its embedding from its logits: use another"
        )
    # On the instance: a module around it would put a prefix before all published keys.
    net.forward = functools.partial(_forward, net)
    return net


def find_pretrained_config(name: str) -> PretrainedCfg:
    """Return what timm knows of a model: licence, head, first convolution, address of its weights.

    Raises:
        ValueError: timm has no such model, or no such weights for it; names the nearest.
    """
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0)
        raise ValueError(f"no timm model {base}; the nearest are {', '.join(near)}")
    known = timm.list_pretrained(f"{base}.*")
    if tag and name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0)
        hint = f"the nearest are {', '.join(near)}" if near else "timm has none for it"
        raise ValueError(f"no timm weights {name}; {hint}")
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise ValueError(f"timm knows nothing about {name}: use another model")
    return config


def list_head_layers(name: str) -> tuple[str, ...]:
    """Return the layers whose size depends on the classes.

    Raises:
        ValueError: timm has no such model.
    """
    layers: Any = find_pretrained_config(name).classifier
    return (layers,) if isinstance(layers, str) else tuple(layers or ())


def fetch_pretrained(name: str) -> None:
    """Fetch timm's weights to this machine, unless they are here.

    Raises:
        ValueError: timm has no such model, or no weights for it.
        MissingWeights: they could not be fetched.
    """
    _create_model(name, find_pretrained_config(name), pretrained=True)


def translate(net: Any, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return weights that timm published with the keys, positions and input channel of `net`."""
    translated = dict(stored)
    # timm's own loader calls this function, which converts a model's older or differently sized files.
    own_filter = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if own_filter is not None:
        # It fails on another model's file; the caller then reports which keys do not fit.
        with contextlib.suppress(Exception):
            translated = dict(own_filter(dict(stored), net))
    own, layers = net.state_dict(), net.pretrained_cfg.get("first_conv") or ()
    for layer in (layers,) if isinstance(layers, str) else layers:
        key = f"{layer}.weight"
        if key in translated and key in own and translated[key].shape[1:2] == (3,):
            translated[key] = adapt_input_conv(own[key].shape[1], translated[key])
    return translated


def _forward(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (B, K) and embedding (B, D) of log-mels (B, 1, F, T)."""
    features = net.forward_features(x)
    return net.forward_head(features), net.forward_head(features, pre_logits=True).flatten(1)


def _create_model(name: str, config: PretrainedCfg, *, pretrained: bool, **arguments: Any) -> Any:
    if not pretrained:
        return timm.create_model(name, **arguments)
    if not config.has_weights:
        raise ValueError(f"timm has no weights for {name}: start from random ones, --weights none")
    try:
        return timm.create_model(name, pretrained=True, **arguments)
    except OSError as error:
        address, hand = f"timm:{name}", "download them by hand"
        if config.hf_hub_id:
            address = f"https://huggingface.co/{config.hf_hub_id}"
            hand = f"download {address}/resolve/main/model.safetensors by hand"
        raise MissingWeights(
            address,
            " ".join(str(error).split()),
            f"Set HF_HUB_OFFLINE=1 to use what an earlier run has fetched, or {hand} and give the "
            "file: --weights FILE, or start from random weights: --weights none",
        ) from error


def _create_fixed_size(
    name: str, create: Callable[..., Any], input_shape: tuple[int, int] | None
) -> Any:
    """Create a network that was made for images of one size, but for another size or for any."""
    sizes: dict[str, Any] = {"img_size": input_shape}
    if input_shape is None:
        sizes = {"dynamic_img_size": True, "dynamic_img_pad": True}
    try:
        net = create(**sizes)
    except TypeError as error:
        if not any(size in str(error) for size in sizes):
            raise
        if input_shape is None:
            raise ValueError(
                f"timm:{name} takes inputs of only one size: give it as input_shape=(bands, frames)"
            ) from error
        raise ValueError(
            f"timm:{name} takes only images of its own size, not spectrograms of "
            f"{input_shape}: use another model"
        ) from error
    if input_shape is not None:
        _try_out(name, net, input_shape)
    return net


def _try_out(name: str, net: nn.Module, input_shape: tuple[int, int]) -> None:
    """Check now what would otherwise fail at the first clip."""
    device = next(net.parameters()).device
    was_training = net.training
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, 1, *input_shape, device=device))
    # Families reject a size in different ways: by assertions, or by shapes that do not fit.
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(f"timm:{name} does not take inputs of {input_shape}: {error}") from error
    net.train(was_training)
