"""A teacher's name -> its architecture, its published weights and what they were trained with."""

import difflib
import functools
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from audio import front_ends
from audio.front_ends import FrontEnd
from teachers.errors import MissingWeights, UnknownTeacher
from teachers.fetch import fetch_file
from teachers.transfer import OnDownload

if TYPE_CHECKING:
    from torch import nn

    from logit_store import LogitStore
    from teachers.weights import Translate

CHECKPOINTS = Path(__file__).with_name("checkpoints.toml")
TIMM = "timm:"

_NONE = "none"
_PUBLISHED = "published"
_AUDIOSET = "audioset"
_PRETRAINED = "pretrained"

TrainedOn = Literal["AudioSet", "ImageNet", "TAU22"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherArchitecture:
    """A published network: how it is made, what it takes, and where its weights are."""

    family: str
    """The kind of network, which is the name of its file in this package."""
    network: str
    """What makes it, in that file. It is called with n_classes and the arguments, and what it
    returns gives (logits, embedding)."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    head: tuple[str, ...] = ()
    """Layers whose size depends on the classes; they start from random weights for other classes."""
    published: str | None = None
    """Address of its weights; None if there are none, or timm finds them."""
    fetch_own: Callable[[], None] | None = None
    """Fetches the weights that the network loads itself if it is made with pretrained=True (timm);
    None if it cannot do that."""
    translate: "Translate | None" = None
    """Converts published weights to its keys and shapes; None if they have them already."""
    trained_on: TrainedOn | None = None
    """What the weights were trained on last; None if that is not known here. TAU22 is the whole
    training split of TAU 2022: such a teacher has heard clips that smaller splits must not know."""
    mean_average_precision: float | None = None
    """On AudioSet, 0...1, from upstream's table or (PaSST) from the file's name; None if neither
    gives it."""
    front_end: FrontEnd | None = None
    """The front-end that the weights were trained with; None if they were trained on images."""
    licence: str | None = None
    """The licence of the weights, or of upstream's code if there are no weights; None if upstream
    states none."""
    mel_bands: int | None = None
    """The only number of bands that it takes; None if it takes any."""
    shortest_frames: int = 1
    longest_frames: int | None = None
    """None if it takes any number."""

    def make(self, **settings: Any) -> "nn.Module":
        """Return the network with random weights, or with those that `settings` ask for."""
        # Only the family that is asked for is imported: timm and torchvision take seconds.
        return getattr(import_module(f"teachers.{self.family}"), self.network)(**settings)


def find_architecture(name: str) -> TeacherArchitecture:
    """Return the entry of a name: one of CATALOGUE, or `timm:` and the name of any timm model.

    Raises:
        UnknownTeacher: there is none; names the nearest.
    """
    if name.startswith(TIMM):
        return _describe_timm(name.removeprefix(TIMM))
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
    store: "LogitStore | None" = None,
    **arguments: Any,
) -> "nn.Module":
    """Return a teacher: (B, 1, F, T) -> (logits [B, K], embedding [B, D]).

    Args:
        name: one of CATALOGUE, or `timm:` and the name of any timm model.
        n_classes: K; if the head in the weights has another size, a fresh one replaces it.
        weights: "none" starts from random weights; "published" from the architecture's own, which
            "audioset" means too if they were trained on AudioSet, and "pretrained" if they are
            timm's; otherwise the path of a state dict, or its address (https://, http://, s3://).
        store: records what a downloaded file was, and refuses a different one later.
        **arguments: overrides of the architecture's arguments.

    Raises:
        UnknownTeacher: no such teacher, or it has no such weights.
        MissingWeights: the weights are not on this machine and cannot be fetched; says what to do.
        DamagedWeights: they are not the file that the store has recorded.
        UnfitWeights: they are not a state dict, or that of another architecture; lists the keys.
    """
    entry = find_architecture(name)
    settings = {"n_classes": n_classes, **entry.arguments, **arguments}
    if _loads_own(name, entry, weights):
        return entry.make(**settings, pretrained=True)
    file = fetch_weights(name, weights, store)
    model = entry.make(**settings)
    if file is not None:
        from teachers.weights import load_weights

        load_weights(model, file, entry.head, translate=entry.translate)
    return model


def fetch_weights(
    name: str,
    weights: str | Path,
    store: "LogitStore | None" = None,
    on_progress: OnDownload = lambda done, total: None,
) -> Path | None:
    """Return the file that `build` would load, fetched to this machine; None if it needs none.

    Args:
        name: the teacher's name.
        weights: as for `build`.
        store: as for `build`.
        on_progress: called with the bytes so far and their total during a download.

    Raises:
        UnknownTeacher: no such teacher, or it has no such weights.
        MissingWeights: the weights are not on this machine and cannot be fetched; says what to do.
        DamagedWeights: they are not the file that the store has recorded.
    """
    entry = find_architecture(name)
    if _loads_own(name, entry, weights):
        if entry.fetch_own is not None:
            entry.fetch_own()
        return None
    address = _find_address(name, entry, weights)
    if address is None:
        return None
    if urlsplit(address).scheme == "file":
        address = unquote(urlsplit(address).path)
    if "://" in address:
        return fetch_file(address, store=store, on_progress=on_progress)
    file = Path(address).expanduser()
    if not file.is_file():
        raise MissingWeights(
            address,
            "there is no such file",
            f"Give {_NONE}, {_PUBLISHED}, {_AUDIOSET}, {_PRETRAINED} (timm), the path of a state "
            "dict, or its address (https://, http://, s3://)",
        )
    return file


def is_local_file(weights: str) -> bool:
    """Return whether weights are named by the path of a file on this machine."""
    named = (_NONE, _PUBLISHED, _AUDIOSET, _PRETRAINED)
    return weights not in named and urlsplit(weights).scheme in ("", "file")


def _loads_own(name: str, entry: TeacherArchitecture, weights: str | Path) -> bool:
    """Return whether the network loads these weights itself, as timm's do."""
    if weights == _PRETRAINED and entry.fetch_own is None:
        raise UnknownTeacher(
            f"weights={_PRETRAINED} is for {TIMM} models, and {name} is not one: give "
            f"weights={_PUBLISHED} or weights={_NONE}"
        )
    return weights in (_PUBLISHED, _PRETRAINED) and entry.fetch_own is not None


def _find_address(name: str, entry: TeacherArchitecture, weights: str | Path) -> str | None:
    """Return the path or address of the weights; None to start from random ones."""
    if weights == _NONE:
        return None
    if weights not in (_PUBLISHED, _AUDIOSET):
        return str(weights)
    if weights == _AUDIOSET and entry.trained_on not in (None, "AudioSet"):
        raise UnknownTeacher(
            f"the weights of teacher {name} were trained on {entry.trained_on}, not on AudioSet: "
            f"give weights={_PUBLISHED}"
        )
    if entry.published is None:
        kind = "AudioSet" if weights == _AUDIOSET else "published"
        instead = _PRETRAINED if entry.fetch_own else _NONE
        raise UnknownTeacher(f"teacher {name} has no {kind} weights: give weights={instead}")
    return entry.published


def _describe_timm(name: str) -> TeacherArchitecture:
    # timm and torchvision take seconds to import.
    from teachers import timm_backbone

    try:
        config = timm_backbone.find_pretrained_config(name)
    except ValueError as error:
        raise UnknownTeacher(str(error)) from error
    return TeacherArchitecture(
        family="timm_backbone",
        network="make_timm_backbone",
        arguments={"name": name},
        head=timm_backbone.list_head_layers(name),
        fetch_own=functools.partial(timm_backbone.fetch_pretrained, name),
        translate=timm_backbone.translate,
        licence=config.license,
        shortest_frames=timm_backbone.SHORTEST_FRAMES,
    )


def _read_checkpoints() -> dict[str, TeacherArchitecture]:
    groups = tomllib.loads(CHECKPOINTS.read_text())["groups"]
    return {
        name: _make_entry(group, line)
        for group in groups
        for name, line in group.pop("checkpoints").items()
    }


def _make_entry(group: Mapping[str, Any], line: Mapping[str, Any]) -> TeacherArchitecture:
    settings = {**group, **line}
    front_end, changes = settings.pop("front_end", None), settings.pop("front_end_changes", {})
    if front_end is not None:
        settings["front_end"] = replace(getattr(front_ends, front_end), **changes)
    arguments = {**group.get("arguments", {}), **line.get("arguments", {})}
    settings["arguments"] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in arguments.items()
    }
    settings["head"] = tuple(settings["head"])
    published = settings.pop("folder") + settings.pop("file")
    return TeacherArchitecture(published=published, **settings)


CATALOGUE: dict[str, TeacherArchitecture] = {
    **_read_checkpoints(),
    "cpr_128": TeacherArchitecture(
        family="cp_resnet",
        network="CPResNet",
        head=("feed_forward.0", "feed_forward.1"),
        licence="MIT",
        shortest_frames=5,
    ),
}
"""Every published checkpoint by upstream's name for it, with `passt` for the first PaSST, and the
CP-ResNet of cpjku_dcase22 with base_channels 32, which is trained from scratch."""
