"""A backbone's name -> what it is; fetches nothing, so that plans may ask."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio.front_ends import AISFX, AUDIOSET, FrontEnd
from audio.lengths import ClipLength
from teachers.backbones.aisfx_package import CHECKPOINT_SHA256, LICENCE, locate_checkpoint
from teachers.backbones.backbone import Backbone, LearntFrom
from teachers.backbones.errors import UnknownBackbone
from teachers.backbones.onnx_file import OnnxInput, count_samples, read_onnx
from teachers.backbones.sources import AisfxPackage, PublishedWeights, StoredTeacher
from teachers.catalogue import CATALOGUE, TIMM, TeacherArchitecture, find_architecture
from teachers.recipes import timm_recipe

if TYPE_CHECKING:
    from logit_store import LogitKey, LogitStore

AISFX_NAME = "aisfx"
ONNX = "onnx:"
AISFX_S = 2.32
"""Duration of the clips that aiSFX learnt: 100 frames."""
_OWN_POOLING = "the network's own"
_CLASSES = {"AudioSet": 527, "ImageNet": 1000, "TAU22": 10, None: 10}


def find_backbone(
    name: str,
    *,
    store: "LogitStore | None" = None,
    onnx: OnnxInput = OnnxInput(),  # noqa: B008 - a frozen value
) -> Backbone:
    """Return the backbone of a name.

    Args:
        name: `aisfx`; a name of `teachers.catalogue` that has published weights, `timm:NAME`; the
            member name of a teacher in `store`; or `onnx:FILE`.
        store: where teachers are looked for.
        onnx: what an ONNX file does not say of its input.

    Raises:
        UnknownBackbone: there is none; or it takes options that are missing.
        MissingWeights: the package aisfx or the ONNX file is not here.
        DamagedWeights: the package has other weights than the published ones.
        UnfitWeights: the ONNX file takes or gives other shapes.
    """
    if name == AISFX_NAME:
        return _find_aisfx()
    if name.startswith(ONNX):
        return _find_onnx(name, onnx)
    if name in CATALOGUE or name.startswith(TIMM):
        return _find_published(name)
    stored = [] if store is None else store.keys(member=name)
    if store is not None and stored:
        return _find_stored(store, stored[0])
    near = difflib.get_close_matches(name, (AISFX_NAME, *CATALOGUE), n=3, cutoff=0)
    where = "" if store is None else f", and store {store.address} has no such member"
    raise UnknownBackbone(
        f"no backbone {name}{where}; the nearest are {', '.join(near)}; {TIMM}NAME is any timm "
        f"model, {ONNX}FILE an ONNX file"
    )


def _find_aisfx() -> Backbone:
    locate_checkpoint()
    pooling = "mean over bands, maximum over frames"
    return Backbone(
        name=AISFX_NAME,
        source=AisfxPackage(),
        identity=_identify(CHECKPOINT_SHA256, AISFX, pooling, shortest_s=AISFX_S),
        sample_rate=AISFX.sample_rate,
        front_end=AISFX,
        shortest_s=AISFX_S,
        pooling=pooling,
        licence=LICENCE,
    )


def _find_onnx(name: str, given: OnnxInput) -> Backbone:
    shapes = read_onnx(name, Path(name.removeprefix(ONNX)).expanduser(), given)
    only_s = None if shapes.n_samples is None else shapes.n_samples / shapes.sample_rate
    front_end = shapes.front_end if shapes.front_end is not None else shapes.sample_rate
    return Backbone(
        name=name,
        source=shapes.network,
        identity=_identify(shapes.network.sha256, front_end, "the file's own", only_s=only_s),
        sample_rate=shapes.sample_rate,
        front_end=shapes.front_end,
        shortest_s=only_s,
        longest_s=only_s,
        pooling="the file's own",
    )


def _find_published(name: str) -> Backbone:
    entry = find_architecture(name)
    if entry.published is None and entry.fetch_own is None:
        raise UnknownBackbone(f"backbone {name} has no published weights: teach it first")
    is_timm = entry.fetch_own is not None
    # Networks of images: the front-end that their own recipes, or their later weights, have.
    front_end = entry.front_end or (timm_recipe(name).front_end if is_timm else AUDIOSET)
    shortest_s, longest_s = _find_durations(entry, front_end)
    weights = name if entry.published is None else entry.published
    tau = (LearntFrom(corpus="tau", split=None),) if entry.trained_on == "TAU22" else ()
    return Backbone(
        name=name,
        source=PublishedWeights(
            model=name,
            weights="pretrained" if is_timm else "published",
            n_classes=_CLASSES[entry.trained_on],
        ),
        identity=_identify(
            weights, front_end, _OWN_POOLING, shortest_s=shortest_s, longest_s=longest_s
        ),
        sample_rate=front_end.sample_rate,
        front_end=front_end,
        shortest_s=shortest_s,
        longest_s=longest_s,
        pooling=_OWN_POOLING,
        licence=entry.licence,
        learnt_from=tau,
    )


def _find_durations(
    entry: TeacherArchitecture, front_end: FrontEnd
) -> tuple[float | None, float | None]:
    """Return the shortest and the longest clips that a network takes, in seconds."""
    few, many = entry.shortest_frames, entry.longest_frames
    rate = front_end.sample_rate
    return (
        None if few <= 1 else count_samples(front_end, few) / rate,
        None if many is None else count_samples(front_end, many) / rate,
    )


def _find_stored(store: "LogitStore", key: "LogitKey") -> Backbone:
    footer = store.read_footer(key)
    record = footer.record
    recipe, sha256 = record.get("recipe"), record.get("weights_sha256")
    # A probe has no front-end.
    if (
        record.get("kind") != "teacher"
        or sha256 is None
        or not isinstance(recipe, Mapping)
        or "front_end" not in recipe
    ):
        raise UnknownBackbone(
            f"backbone {key.member} is no teacher with weights in store {store.address}, but "
            f"{record.get('family', record.get('kind', 'logits from elsewhere'))}: name a teacher that was "
            "fine-tuned here"
        )
    try:
        front_end, length = FrontEnd(**recipe["front_end"]), ClipLength(**recipe["length"])
        source = StoredTeacher(
            member=key.member,
            model=recipe["model"],
            arguments=recipe["arguments"],
            n_classes=len(footer.classes),
            weights_sha256=sha256,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownBackbone(
            f"backbone {key.member}: the recipe in its record is of another version ({error}): "
            "teach it again"
        ) from error
    return Backbone(
        name=key.member,
        source=source,
        identity=_identify(sha256, front_end, _OWN_POOLING, length=length),
        sample_rate=front_end.sample_rate,
        front_end=front_end,
        length=length,
        pooling=_OWN_POOLING,
        learnt_from=_find_learnt(store, key),
    )


def _find_learnt(store: "LogitStore", key: "LogitKey") -> tuple[LearntFrom, ...]:
    """Return whose labels a stored teacher has learnt: its own, and those of the one it started from.

    Raises:
        UnknownBackbone: the one that it started from is not in the store.
    """
    found, member = list[LearntFrom](), key.member
    while member is not None:
        keys = store.keys(member=member)
        if not keys:
            raise UnknownBackbone(
                f"backbone {key.member} started from {member}, which is not in store {store.address}: "
                "nobody can tell whose labels it has learnt; copy that member's logits there"
            )
        record = store.read_record(keys[0])
        # A teacher has logits of the clips of pools as well, under the names of these.
        corpus = record.get("learnt_corpus", keys[0].corpus)
        split = keys[0].split if record.get("protocol") == "honest" else None
        found.append(LearntFrom(corpus=corpus, split=split))
        member = record.get("start")
    return tuple(found)


def _identify(
    weights: str, front_end: FrontEnd | int, pooling: str, **lengths: ClipLength | float | None
) -> dict[str, Any]:
    """Return what changes an embedding; a number in the place of a front-end is a sample rate."""
    return {"weights": weights, "front_end": front_end, "pooling": pooling, **lengths}
