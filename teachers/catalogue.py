"""A teacher's name -> its architecture, its published weights and what they were trained with."""

import difflib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from torch import nn

from audio.log_mel import AUDIOSET as AUDIOSET_FRONT_END
from audio.log_mel import CPJKU23_CP_RESNET, CPJKU23_PASST, FrontEnd
from logit_store import LogitStore
from teachers.cp_resnet import CPResNet
from teachers.dymn import DyMN
from teachers.fetch import MissingWeights, OnProgress, fetch
from teachers.mobilenet import MobileNet
from teachers.weights import Translate, load_weights

EFFICIENT_AT_RELEASE = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
PASST_RELEASES = "https://github.com/kkoutini/PaSST/releases/download/"
CPJKU23_RELEASE = "https://github.com/fschmid56/cpjku_dcase23/releases/download/ensemble_logits/"

NONE = "none"
PUBLISHED = "published"
AUDIOSET = "audioset"
PRETRAINED = "pretrained"
TIMM = "timm:"

TrainedOn = Literal["AudioSet", "ImageNet", "TAU22"]


class UnknownTeacher(ValueError):
    """There is no teacher of that name, or none with such weights; the message says which are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A published network: how it is made, what it takes, and where its weights are."""

    make: Callable[..., nn.Module]
    """Called with n_classes and the arguments; what it makes gives (logits, embedding)."""
    family: str
    """Which kind of network it is: the name of its file in this package."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    head: tuple[str, ...] = ()
    """Layers whose size depends on the classes, and which start anew for other classes."""
    published: str | None = None
    """Address of its weights; None: there are none, or timm finds them."""
    fetch_own: Callable[[], None] | None = None
    """Fetches the weights that `make` takes by itself when called with pretrained=True (timm);
    None: it takes none."""
    translate: Translate | None = None
    """Brings published weights to its keys and shapes; None: they have them."""
    trained_on: TrainedOn | None = None
    """What the weights were trained on last; None where that is not known here. TAU22 is the whole
    training split of TAU 2022: such a teacher has heard what smaller splits must not know."""
    mean_average_precision: float | None = None
    """On AudioSet, 0...1, as upstream's table tells it, or (PaSST) its file's name; None where it
    tells none."""
    front_end: FrontEnd | None = None
    """With which the weights were trained; None where it was images."""
    licence: str | None = None
    """Of the weights, or without any of upstream's code; None: upstream states none."""
    mel_bands: int | None = None
    """The one number of bands that it takes; None takes any."""
    shortest_frames: int = 1
    longest_frames: int | None = None
    """None takes any."""


def architecture(name: str) -> Architecture:
    """The entry of a name: one of CATALOGUE, or `timm:` and the name of any timm model.

    Raises:
        UnknownTeacher: there is none; names the nearest.
    """
    if name.startswith(TIMM):
        return _timm(name.removeprefix(TIMM))
    if name not in CATALOGUE:
        near = ", ".join(difflib.get_close_matches(name, CATALOGUE, n=3, cutoff=0))
        raise UnknownTeacher(
            f"no teacher {name}; the nearest are {near}, and {TIMM}NAME is any timm model"
        )
    return CATALOGUE[name]


def build(
    name: str,
    *,
    n_classes: int,
    weights: str | Path,
    store: LogitStore | None = None,
    **arguments: Any,
) -> nn.Module:
    """A teacher: (B, 1, F, T) -> (logits [B, K], embedding [B, D]).

    Args:
        name: one of CATALOGUE, or `timm:` and the name of any timm model.
        n_classes: K; a head of another size in the weights is replaced by a fresh one.
        weights: "none" starts from the architecture's random initialisation; "published" from its
            own weights, which "audioset" means too where they are of AudioSet and "pretrained"
            where they are timm's; else the path of a state dict, or its address (https://,
            http://, s3://).
        store: remembers what a downloaded file was, and refuses another one later.
        **arguments: overrides of the architecture's arguments.

    Raises:
        UnknownTeacher: no such teacher, or it has no such weights.
        MissingWeights: the weights are neither on this machine nor to be had; says what to do.
        DamagedWeights: they are not the file that the store remembers.
        UnfitWeights: they are no state dict, or that of another architecture; lists the keys.
    """
    entry = architecture(name)
    settings = {"n_classes": n_classes, **entry.arguments, **arguments}
    if _means_own(name, entry, weights):
        return entry.make(**settings, pretrained=True)
    file = fetch_weights(name, weights, store)
    model = entry.make(**settings)
    if file is not None:
        load_weights(model, file, entry.head, translate=entry.translate)
    return model


def fetch_weights(
    name: str,
    weights: str | Path,
    store: LogitStore | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Path | None:
    """The file that `build` would load, on this machine; None where it needs none.

    Args:
        name: of the teacher.
        weights: as for `build`.
        store: as for `build`.
        on_progress: told bytes and their total while they are downloaded.

    Raises:
        UnknownTeacher: no such teacher, or it has no such weights.
        MissingWeights: the weights are neither on this machine nor to be had; says what to do.
        DamagedWeights: they are not the file that the store remembers.
    """
    entry = architecture(name)
    if _means_own(name, entry, weights):
        if entry.fetch_own is not None:
            entry.fetch_own()
        return None
    address = _address(name, entry, weights)
    if address is None:
        return None
    if urlsplit(address).scheme == "file":
        address = unquote(urlsplit(address).path)
    if "://" in address:
        return fetch(address, store=store, on_progress=on_progress)
    file = Path(address).expanduser()
    if not file.is_file():
        raise MissingWeights(
            address,
            "there is no such file",
            f"Give {NONE}, {PUBLISHED}, {AUDIOSET}, {PRETRAINED} (timm), the path of a state dict, "
            "or its address (https://, http://, s3://)",
        )
    return file


def _means_own(name: str, entry: Architecture, weights: str | Path) -> bool:
    """Whether the architecture finds its own weights, as timm's do."""
    if weights == PRETRAINED and entry.fetch_own is None:
        raise UnknownTeacher(
            f"weights={PRETRAINED} are those of {TIMM} models, and {name} is none: give "
            f"weights={PUBLISHED} or weights={NONE}"
        )
    return weights in (PUBLISHED, PRETRAINED) and entry.fetch_own is not None


def _address(name: str, entry: Architecture, weights: str | Path) -> str | None:
    """Path or address of the weights; None to start from random ones."""
    if weights == NONE:
        return None
    if weights not in (PUBLISHED, AUDIOSET):
        return str(weights)
    if weights == AUDIOSET and entry.trained_on not in (None, "AudioSet"):
        raise UnknownTeacher(
            f"the weights of teacher {name} are of {entry.trained_on}, not of AudioSet: give "
            f"weights={PUBLISHED}"
        )
    if entry.published is None:
        kind = "AudioSet" if weights == AUDIOSET else "published"
        instead = PRETRAINED if entry.fetch_own else NONE
        raise UnknownTeacher(f"teacher {name} has no {kind} weights: give weights={instead}")
    return entry.published


def _timm(name: str) -> Architecture:
    # timm and torchvision: seconds and megabytes for this family alone.
    from teachers import timm_backbone

    try:
        config = timm_backbone.pretrained_config(name)
    except ValueError as error:
        raise UnknownTeacher(str(error)) from error
    return Architecture(
        make=timm_backbone.timm_backbone,
        family="timm_backbone",
        arguments={"name": name},
        head=timm_backbone.head_layers(name),
        fetch_own=functools.partial(timm_backbone.fetch_pretrained, name),
        translate=timm_backbone.translate,
        licence=config.license,
        shortest_frames=timm_backbone.SHORTEST_FRAMES,
    )


def _make_passt(**arguments: Any) -> nn.Module:
    # hear21passt brings timm and torchvision: seconds and megabytes for this family alone.
    from teachers.passt import PaSST

    return PaSST(**arguments)


def _mobilenet(
    file: str,
    width: float,
    mean_average_precision: float | None = None,
    *,
    front_end: FrontEnd = AUDIOSET_FRONT_END,
    **arguments: Any,
) -> Architecture:
    is_convolutional = arguments.get("head") == "fully_convolutional"
    return Architecture(
        make=MobileNet,
        family="mobilenet",
        arguments={"width": width, **arguments},
        head=("classifier.0", "classifier.1") if is_convolutional else ("classifier.5",),
        published=EFFICIENT_AT_RELEASE + file,
        trained_on="AudioSet",
        mean_average_precision=mean_average_precision,
        front_end=front_end,
        licence="MIT",
    )


def _dymn(
    file: str, width: float, mean_average_precision: float | None = None, **arguments: Any
) -> Architecture:
    return Architecture(
        make=DyMN,
        family="dymn",
        arguments={"width": width, "temperature": 1.0, **arguments},
        head=("classifier.5",),
        published=EFFICIENT_AT_RELEASE + file,
        trained_on="AudioSet",
        mean_average_precision=mean_average_precision,
        front_end=AUDIOSET_FRONT_END,
        licence="MIT",
    )


def _of_images(entry: Architecture, **arguments: Any) -> Architecture:
    """The same network with weights from before AudioSet."""
    return replace(
        entry,
        arguments={**entry.arguments, **arguments},
        trained_on="ImageNet",
        front_end=None,
    )


def _passt(
    file: str,
    mean_average_precision: float,
    *,
    stride: int = 10,
    frames: int = 998,
    front_end: FrontEnd = AUDIOSET_FRONT_END,
    **arguments: Any,
) -> Architecture:
    return Architecture(
        make=_make_passt,
        family="passt",
        arguments={"stride": stride, "frames": frames, **arguments},
        head=("head.1", "head_dist"),
        published=PASST_RELEASES + file,
        trained_on="AudioSet",
        mean_average_precision=mean_average_precision,
        front_end=front_end,
        licence="Apache-2.0",
        mel_bands=128,
        shortest_frames=16,
        # As many patches of 16, one every stride, as there are positions.
        longest_frames=16 + stride * (frames // stride) - 1,
    )


def _of_tau22(entry: Architecture, name: str, front_end: FrontEnd) -> Architecture:
    """The same network as CP-JKU's DCASE 2023 entry trained it; its repository states no licence."""
    return replace(
        entry,
        published=f"{CPJKU23_RELEASE}{name}.pt",
        trained_on="TAU22",
        mean_average_precision=None,
        front_end=front_end,
        licence=None,
    )


def _hop(hop_samples: int) -> FrontEnd:
    return replace(AUDIOSET_FRONT_END, hop_samples=hop_samples)


def _bands(mel_bands: int) -> FrontEnd:
    return replace(AUDIOSET_FRONT_END, mel_bands=mel_bands)


_PASST = _passt("v0.0.1-audioset/passt-s-f128-p16-s10-ap.476-swa.pt", 0.476)
_CP_RESNET = Architecture(
    make=CPResNet,
    family="cp_resnet",
    head=("feed_forward.0", "feed_forward.1"),
    licence="MIT",
    shortest_frames=5,
)

_MOBILENETS = {
    "mn01_as": _mobilenet("mn01_as_mAP_298.pt", 0.1),
    "mn02_as": _mobilenet("mn02_as_mAP_378.pt", 0.2),
    "mn04_as": _mobilenet("mn04_as_mAP_432.pt", 0.4, 0.432),
    "mn05_as": _mobilenet("mn05_as_mAP_443.pt", 0.5, 0.443),
    "mn10_as": _mobilenet("mn10_as_mAP_471.pt", 1.0, 0.471),
    "mn20_as": _mobilenet("mn20_as_mAP_478.pt", 2.0, 0.478),
    "mn30_as": _mobilenet("mn30_as_mAP_482.pt", 3.0, 0.482),
    "mn40_as": _mobilenet("mn40_as_mAP_484.pt", 4.0, 0.484),
    "mn40_as(2)": _mobilenet("mn40_as_mAP_483.pt", 4.0),
    "mn40_as(3)": _mobilenet("mn40_as_mAP_483(2).pt", 4.0),
    "mn40_as_ext": _mobilenet("mn40_as_ext_mAP_487.pt", 4.0, 0.487),
    "mn40_as_ext(2)": _mobilenet("mn40_as_ext_mAP_486.pt", 4.0),
    "mn40_as_ext(3)": _mobilenet("mn40_as_ext_mAP_485.pt", 4.0),
    "mn40_as_no_im_pre": _mobilenet("mn40_as_no_im_pre_mAP_483.pt", 4.0, 0.483),
    "mn40_as_no_im_pre(2)": _mobilenet("mn40_as_no_im_pre_mAP_483(2).pt", 4.0),
    "mn40_as_no_im_pre(3)": _mobilenet("mn40_as_no_im_pre_mAP_482.pt", 4.0),
    "mn10_as_hop_5": _mobilenet("mn10_as_hop_5_mAP_475.pt", 1.0, front_end=_hop(160)),
    "mn10_as_hop_15": _mobilenet("mn10_as_hop_15_mAP_463.pt", 1.0, 0.463, front_end=_hop(480)),
    "mn10_as_hop_20": _mobilenet("mn10_as_hop_20_mAP_456.pt", 1.0, 0.456, front_end=_hop(640)),
    "mn10_as_hop_25": _mobilenet("mn10_as_hop_25_mAP_447.pt", 1.0, 0.447, front_end=_hop(800)),
    "mn10_as_mels_40": _mobilenet("mn10_as_mels_40_mAP_453.pt", 1.0, 0.453, front_end=_bands(40)),
    "mn10_as_mels_64": _mobilenet("mn10_as_mels_64_mAP_461.pt", 1.0, 0.461, front_end=_bands(64)),
    "mn10_as_mels_256": _mobilenet(
        "mn10_as_mels_256_mAP_474.pt",
        1.0,
        0.474,
        front_end=replace(_bands(256), deaf_bands=13),
    ),
    "mn10_as_fc": _mobilenet("mn10_as_fc_mAP_465.pt", 1.0, head="fully_convolutional"),
    "mn10_as_fc_s2221": _mobilenet(
        "mn10_as_fc_s2221_mAP_466.pt", 1.0, head="fully_convolutional", strides=(2, 2, 2, 1)
    ),
    "mn10_as_fc_s2211": _mobilenet(
        "mn10_as_fc_s2211_mAP_466.pt", 1.0, head="fully_convolutional", strides=(2, 2, 1, 1)
    ),
    "mn01_im": _of_images(_mobilenet("mn01_im.pt", 0.1)),
    "mn02_im": _of_images(_mobilenet("mn02_im.pt", 0.2)),
    "mn04_im": _of_images(_mobilenet("mn04_im.pt", 0.4)),
    "mn05_im": _of_images(_mobilenet("mn05_im.pt", 0.5)),
    "mn10_im": _of_images(_mobilenet("mn10_im.pt", 1.0)),
    "mn20_im": _of_images(_mobilenet("mn20_im.pt", 2.0)),
    "mn30_im": _of_images(_mobilenet("mn30_im.pt", 3.0)),
    "mn40_im": _of_images(_mobilenet("mn40_im.pt", 4.0)),
    "mn10_im_pytorch": _of_images(_mobilenet("mn10_im_pytorch.pt", 1.0)),
}
"""EfficientAT (fschmid56/EfficientAT, models/mn/model.py and README)."""

_DYNAMIC_MOBILENETS = {
    "dymn04_as": _dymn("dymn04_as.pt", 0.4, 0.450),
    "dymn10_as": _dymn("dymn10_as.pt", 1.0, 0.477),
    "dymn20_as": _dymn("dymn20_as_mAP_493.pt", 2.0, 0.491),
    "dymn20_as(1)": _dymn("dymn20_as.pt", 2.0),
    "dymn20_as(2)": _dymn("dymn20_as_mAP_489.pt", 2.0),
    "dymn20_as(3)": _dymn("dymn20_as_mAP_490.pt", 2.0),
    "dymn04_replace_se_as": _dymn("dymn04_replace_se_as.pt", 0.4, dynamic_blocks="replace_se"),
    # The name begins with a space in upstream's list.
    "dymn10_replace_se_as": _dymn("%20dymn10_replace_se_as.pt", 1.0, dynamic_blocks="replace_se"),
    # On images the temperature was still that of the first epoch.
    "dymn04_im": _of_images(_dymn("dymn04_im.pt", 0.4), temperature=30.0),
    "dymn10_im": _of_images(_dymn("dymn10_im.pt", 1.0), temperature=30.0),
    "dymn20_im": _of_images(_dymn("dymn20_im.pt", 2.0), temperature=30.0),
}
"""EfficientAT (fschmid56/EfficientAT, models/dymn/model.py and README)."""

_PASSTS = {
    "passt": _PASST,
    "passt_s_swa_p16_128_ap476": _PASST,
    "passt_s_kd_p16_128_ap486": _passt("v.0.0.9/passt-s-kd-ap.486.pt", 0.486),
    "passt_l_kd_p16_128_ap47": _passt("v.0.0.10/passt-l-kd-ap.47.pt", 0.47, depth=7),
    "passt_s_swa_p16_128_ap4761": _passt(
        "v0.0.2-audioset/passt-s-f128-p16-s10-ap.4761-swa.pt", 0.4761
    ),
    "passt_s_p16_128_ap472": _passt("v0.0.2-audioset/passt-s-f128-p16-s10-ap.472.pt", 0.472),
    "passt_s_p16_s16_128_ap468": _passt(
        "v0.0.2-audioset/passt-s-f128-p16-s16-ap.468.pt", 0.468, stride=16
    ),
    "passt_s_swa_p16_s16_128_ap473": _passt(
        "v0.0.2-audioset/passt-s-f128-p16-s16-ap.473-swa.pt", 0.473, stride=16
    ),
    "passt_s_swa_p16_s14_128_ap471": _passt(
        "v0.0.2-audioset/passt-s-f128-p16-s14-ap.471-swa.pt", 0.471, stride=14
    ),
    "passt_s_p16_s14_128_ap469": _passt(
        "v0.0.2-audioset/passt-s-f128-p16-s14-ap.469.pt", 0.469, stride=14
    ),
    "passt_s_swa_p16_s12_128_ap473": _passt(
        "v0.0.2-audioset/passt-s-f128-p16-s12-ap.473-swa.pt", 0.473, stride=12
    ),
    "passt_s_p16_s12_128_ap470": _passt(
        "v0.0.2-audioset/passt-s-f128-p16-s12-ap.470.pt", 0.470, stride=12
    ),
    "passt_s_swa_f128_stfthop100_p16_s10_ap473": _passt(
        "v0.0.3-audioset/passt-s-f128-stfthop100-p16-s10-ap.473-swa.pt",
        0.473,
        frames=3200,
        front_end=_hop(100),
    ),
    "passt_s_swa_f128_stfthop160_p16_s10_ap473": _passt(
        "v0.0.3-audioset/passt-s-f128-stfthop160-p16-s10-ap.473-swa.pt",
        0.473,
        frames=2000,
        front_end=_hop(160),
    ),
    "passt_s_f128_20sec_p16_s10_ap474_swa": _passt(
        "v0.0.5/passt-s-f128-20sec-p16-s10-ap.474-swa.pt", 0.474, frames=2000
    ),
    "passt_s_f128_30sec_p16_s10_ap473_swa": _passt(
        "v0.0.5/passt-s-f128-30sec-p16-s10-ap.473-swa.pt", 0.473, frames=3000
    ),
}
"""PaSST (kkoutini/PaSST and hear21passt, models/passt.py)."""

_OF_TAU22 = {
    f"{family}_{kind}_{number}": _of_tau22(entry, f"{family}_{kind}_{number}", front_end)
    for family, entry, front_end in (
        ("passt", _PASST, CPJKU23_PASST),
        ("cpr_128k", _CP_RESNET, CPJKU23_CP_RESNET),
    )
    for kind in ("dirfms", "fms")
    for number in (1, 2, 3)
}
"""The teachers of CP-JKU's DCASE 2023 entry (fschmid56/cpjku_dcase23): `dir` with device impulse
responses, `fms` with Freq-MixStyle."""

CATALOGUE: dict[str, Architecture] = {
    **_MOBILENETS,
    **_DYNAMIC_MOBILENETS,
    **_PASSTS,
    **_OF_TAU22,
    "cpr_128": _CP_RESNET,
}
"""Every published checkpoint by upstream's name for it, `passt` for the first PaSST, and the
CP-ResNet of cpjku_dcase22 with base_channels 32, which is trained from scratch."""
