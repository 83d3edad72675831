"""A student's name -> its architecture, its arguments, and the front-end that it was made for.

Every student is a `students.student.Student`: inputs (B, C, F, T) -> scene logits [B, K], with
`.features(inputs)` -> [B, D], `.classifier(features)` -> [B, K], `.features_and_logits(inputs)` ->
both in one pass, and `.n_features` = D. A DSMN also has `.heads(features)` -> the logits of scenes
[B, K] and of groups [B, 3].

A network is imported when it is built: the names, arguments and front-ends need no torch.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from audio.front_ends import (
    ASCDOMAIN_CNN,
    BCBL_44K,
    CNN_GRU,
    CP_MOBILE,
    DSMN_FRONT_END,
    TF_SEPNET,
    TF_SEPNET_40,
    FrontEnd,
)

if TYPE_CHECKING:
    from students.student import Student


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentArchitecture:
    """A published student: how it is made and what it takes."""

    network: str
    """Module and class in students/: isotropic.Isotropic."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    front_end: FrontEnd = ASCDOMAIN_CNN
    """The front-end of the published figures; the student takes any that fits."""

    @property
    def make(self) -> Callable[..., "Student"]:
        """The class, called with n_classes and the arguments."""
        module, _, name = self.network.partition(".")
        return getattr(import_module(f"students.{module}"), name)

    @property
    def has_groups(self) -> bool:
        """Whether it has a second head, for groups of scenes."""
        return self.network == _DSMN

    @property
    def has_folded_head(self) -> bool:
        """Whether its classifier ends in a norm, which int8 folds into the convolution before it."""
        return self.network in (_CP_MOBILE, _REP_MOBILE)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape (1, C, F, T) of the log-mels of a clip of one second."""
        return (1, *self.front_end.compute_shape(self.front_end.sample_rate))


def build(
    name: str,
    *,
    n_classes: int,
    input_shape: Sequence[int] | None = None,
    **arguments: Any,
) -> "Student":
    """Build a student with fresh weights: (B, C, F, T) -> logits [B, K].

    Args:
        name: one of ARCHITECTURES.
        n_classes: K.
        input_shape: (C, F, T) of the inputs to come, to refuse those that it cannot take; None
            leaves that to the first pass.
        **arguments: overrides of the architecture's arguments.

    Raises:
        ValueError: an unknown student or argument, a value that it cannot have, or inputs that it
            cannot take.
    """
    settings = resolve_arguments(name, **arguments)
    student = ARCHITECTURES[name].make(n_classes=n_classes, **settings)
    if input_shape is not None:
        student.check_input(input_shape)
    return student


def resolve_arguments(name: str, **arguments: Any) -> dict[str, Any]:
    """Return every argument that a student is made with, defaults included, except n_classes.

    Args:
        name: one of ARCHITECTURES.
        **arguments: overrides of the architecture's arguments.

    Raises:
        ValueError: an unknown student or argument.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"no student {name}; there are: {', '.join(ARCHITECTURES)}")
    entry = ARCHITECTURES[name]
    parameters = inspect.signature(entry.make).parameters
    known = {each: parameters[each].default for each in parameters if each != "n_classes"}
    for argument in arguments:
        if argument not in known:
            raise ValueError(
                f"student {name} has no argument {argument}; there are: {', '.join(known)}"
            )
    return {**known, **entry.arguments, **arguments}


_CP_MOBILE, _DSMN = "cp_mobile.CPMobile", "dsmn.DSMN"
_TF_SEPNET, _REP_MOBILE = "tf_sepnet.TFSepNet", "rep_mobile.RepMobile"


def _isotropic(**arguments: Any) -> StudentArchitecture:
    return StudentArchitecture(network="isotropic.Isotropic", arguments=arguments)


def _recursive(**arguments: Any) -> StudentArchitecture:
    return StudentArchitecture(network="recursive.Recursive", arguments=arguments)


def _bcbl(base_channels: int, front_end: FrontEnd = ASCDOMAIN_CNN) -> StudentArchitecture:
    return StudentArchitecture(
        network=_CP_MOBILE,
        arguments={
            "base_channels": base_channels,
            "channels_multiplier": 1.8,
            "expansion_rate": 2.1,
            "strides": ((1, 1), (1, 1), (1, 2), (2, 1), (1, 1), (1, 1)),
            "response_norm": False,
        },
        front_end=front_end,
    )


def _dsmn(*blocks: str, channels: tuple[int, ...] = (24, 32, 64, 64, 64)) -> StudentArchitecture:
    return StudentArchitecture(
        network=_DSMN,
        arguments={"blocks": blocks, "channels": channels, "sixth_block": True},
        front_end=DSMN_FRONT_END,
    )


def _tf_sepnet_of_the_paper(channels: int) -> StudentArchitecture:
    return StudentArchitecture(
        network=_TF_SEPNET,
        arguments={"channels": channels, "poolings": 2, "adaptive_norm": True},
        front_end=TF_SEPNET_40,
    )


_V2 = {"filters": 128, "kernel": 4, "patch": 8}
_V3 = {"filters": 128, "kernel": 3, "patch": 8}

ARCHITECTURES: Mapping[str, StudentArchitecture] = MappingProxyType(
    {
        "isotropic": _isotropic(),
        "isotropic_v2": _isotropic(depth=4, **_V2),
        "isotropic_v3": _isotropic(depth=6, **_V3),
        "isotropic_noact": _isotropic(depthwise_activation=False),
        "isotropic_mix": _isotropic(mixstyle_probability=0.4),
        "recursive": _recursive(),
        # The same network: ASCDomain's report has one name for it, its code the other.
        "siren": _recursive(),
        "recursive_2x2": _recursive(depth=2, columns=2, **_V2),
        "recursive_2x3": _recursive(depth=2, columns=3, **_V3),
        "recursive_3x2": _recursive(depth=3, columns=2, **_V3),
        "dcase24_baseline": _bcbl(32),
        "bcbl24": _bcbl(24),
        "bcbl24_44k": _bcbl(24, BCBL_44K),
        "bcbl16": _bcbl(16),
        "bcbl8": _bcbl(8),
        "cp_mobile_2023": StudentArchitecture(network=_CP_MOBILE, front_end=CP_MOBILE),
        "dsmn_model1": _dsmn("split", "split", "split", "split", "split"),
        "dsmn_model2": _dsmn("plain", "plain", "plain", "plain", "plain"),
        "dsmn_model3": _dsmn("split", "plain", "plain", "plain", "plain"),
        "dsmn_model4": _dsmn(
            "split", "split", "split", "split", "split", channels=(24, 128, 128, 128, 128)
        ),
        "tf_sepnet": StudentArchitecture(network=_TF_SEPNET, front_end=TF_SEPNET),
        "tf_sepnet_40": _tf_sepnet_of_the_paper(40),
        "tf_sepnet_80": _tf_sepnet_of_the_paper(80),
        "cnn_gru": StudentArchitecture(network="cnn_gru.CNNGRU", front_end=CNN_GRU),
        "rep_mobile": StudentArchitecture(network=_REP_MOBILE),
    }
)
"""Named as in their files: `recursive` is the grid of 3x3, others are depth x columns. The readme of
DSMN calls model 3 what its file model2.py holds, and the reverse. `tf_sepnet` is TF-SepNet-64, the entry
to DCASE 2024; `tf_sepnet_40` and `tf_sepnet_80` are those of the paper."""
