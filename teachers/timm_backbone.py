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

from teachers.fetch import MissingWeights

SHORTEST_FRAMES = 32
"""Most of these networks halve their input five times."""


def timm_backbone(
    n_classes: int,
    name: str,
    *,
    pretrained: bool = False,
    input_shape: tuple[int, int] | None = None,
) -> nn.Module:
    """A timm model for log-mels: (B, 1, F, T) -> logits (B, K), embedding (B, D).

    It is timm's own module with timm's own keys; the embedding is what its last layer classifies.
    Colour images become spectrograms by summing the first convolution over its three colours.

    Args:
        n_classes: K.
        name: timm's name, with or without the tag of the weights (`convnext_nano.in12k`).
        pretrained: start from timm's weights, but for the last layer.
        input_shape: (F, T), for networks that take inputs of one size alone; None lets those that
            can (vision transformers) take any.

    Raises:
        ValueError: no such model, one that does not tell its embedding from its logits, or one
            that takes only inputs of one size and was not told which, or cannot take that one.
        MissingWeights: timm's weights are not on this machine and could not be fetched.
    """
    if n_classes < 1:
        raise ValueError(f"n_classes is {n_classes}, expected at least 1")
    config = pretrained_config(name)
    create = functools.partial(
        _create, name, config, in_chans=1, num_classes=n_classes, pretrained=pretrained
    )
    net = _of_one_size(name, create, input_shape) if config.fixed_input_size else create()
    if input_shape is not None and not config.fixed_input_size:
        raise ValueError(f"timm:{name} takes inputs of any size: leave input_shape out")
    if "pre_logits" not in inspect.signature(net.forward_head).parameters:
        raise ValueError(f"timm:{name} does not tell its embedding from its logits: take another")
    # On the instance: a module around it would put a prefix before all of the published keys.
    net.forward = functools.partial(_forward, net)
    return net


def pretrained_config(name: str) -> PretrainedCfg:
    """What timm says of a model: licence, head, first convolution, where its weights lie.

    Raises:
        ValueError: timm has no such model, or no such weights of it; names the nearest.
    """
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0)
        raise ValueError(f"no timm model {base}; the nearest are {', '.join(near)}")
    known = timm.list_pretrained(f"{base}.*")
    if tag and name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0)
        named = f"the nearest are {', '.join(near)}" if near else "timm has none of it"
        raise ValueError(f"no timm weights {name}; {named}")
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise ValueError(f"timm says nothing of {name}: take another model")
    return config


def head_layers(name: str) -> tuple[str, ...]:
    """Layers whose size depends on the classes.

    Raises:
        ValueError: timm has no such model.
    """
    layers: Any = pretrained_config(name).classifier
    return (layers,) if isinstance(layers, str) else tuple(layers or ())


def fetch_pretrained(name: str) -> None:
    """Make sure that timm's weights are on this machine.

    Raises:
        ValueError: timm has no such model, or no weights of it.
        MissingWeights: they could not be fetched.
    """
    _create(name, pretrained_config(name), pretrained=True)


def translate(net: Any, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights that timm published, with the keys, positions and input channel of `net`."""
    translated = dict(stored)
    # By this name timm's own loader finds what a model's older or otherwise sized files need.
    own_filter = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if own_filter is not None:
        # On another model's file it fails anyhow; then the caller tells which keys do not fit.
        with contextlib.suppress(Exception):
            translated = dict(own_filter(dict(stored), net))
    own, layers = net.state_dict(), net.pretrained_cfg.get("first_conv") or ()
    for layer in (layers,) if isinstance(layers, str) else layers:
        key = f"{layer}.weight"
        if key in translated and key in own and translated[key].shape[1:2] == (3,):
            translated[key] = adapt_input_conv(own[key].shape[1], translated[key])
    return translated


def _forward(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K) and embedding (B, D) of log-mels (B, 1, F, T)."""
    features = net.forward_features(x)
    return net.forward_head(features), net.forward_head(features, pre_logits=True).flatten(1)


def _create(name: str, config: PretrainedCfg, *, pretrained: bool, **arguments: Any) -> Any:
    if not pretrained:
        return timm.create_model(name, **arguments)
    if not config.has_weights:
        raise ValueError(f"timm has no weights of {name}: start from random ones, --weights none")
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


def _of_one_size(name: str, create: Callable[..., Any], input_shape: tuple[int, int] | None) -> Any:
    """A network that was made for images of one size, for another or for any."""
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
                f"timm:{name} takes inputs of one size alone: say which, input_shape=(bands, "
                "frames)"
            ) from error
        raise ValueError(
            f"timm:{name} takes images of its own size alone, and no spectrograms of "
            f"{input_shape}: take another model"
        ) from error
    if input_shape is not None:
        _try_out(name, net, input_shape)
    return net


def _try_out(name: str, net: nn.Module, input_shape: tuple[int, int]) -> None:
    """Refuse at once what would fail at the first clip."""
    device = next(net.parameters()).device
    was_training = net.training
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, 1, *input_shape, device=device))
    # Each family has its own way of not taking a size: assertions, shapes that do not fit.
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(f"timm:{name} takes no inputs of {input_shape}: {error}") from error
    net.train(was_training)
