"""Published taggers as teachers: networks that learnt AudioSet say which own classes a clip has.

They learn nothing of the corpus, so their logits are the same in all splits.

Dimensions: N clips, K own classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from audio.clips import Corpus
from audio.views import stored_views
from logit_store import LogitKey, LogitStore
from teachers.backbones import Backbone, find_backbone
from teachers.catalogue import CATALOGUE
from teachers.class_map import ClassMap, list_audioset_ids
from teachers.errors import UnknownTeacher
from training.keys import hash_clip_order, locate_record, make_member_key

if TYPE_CHECKING:
    import torch

BATCH = 16
"""Clips that are tagged at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tagger:
    """One published network and the classes that it is asked for."""

    backbone: Backbone
    class_map: ClassMap

    @property
    def name(self) -> str:
        """The name that people see, and that its member begins with."""
        return f"tagger_{self.backbone.label}"


def find_tagger(name: str, class_map: ClassMap) -> Tagger:
    """Return the tagger of a name, without fetching anything.

    Raises:
        UnknownTeacher: no published network of this name learnt AudioSet last; names some that did.
    """
    entry = CATALOGUE.get(name)
    if entry is None or entry.trained_on != "AudioSet" or entry.published is None:
        raise UnknownTeacher(
            f"no tagger {name}: expected a published network that learnt AudioSet, such as mn10_as, "
            "dymn10_as or passt; teachers.CATALOGUE has all"
        )
    return Tagger(backbone=find_backbone(name), class_map=class_map)


def make_tagger_keys(tagger: Tagger, corpus: Corpus, splits: Sequence[int]) -> tuple[LogitKey, ...]:
    """Return the keys of a tagger's logits, one for each split."""
    identity = {"tagger": dict(tagger.backbone.identity), "class_map": tagger.class_map.ids}
    return tuple(make_member_key(tagger.name, corpus, split, 0, None, identity) for split in splits)


def tag_and_store(
    tagger: Tagger,
    corpus: Corpus,
    splits: Sequence[int],
    store: LogitStore,
    device: "torch.device",
) -> LogitKey:
    """Store a tagger's logits of all clips for each split, unless they are there.

    Raises:
        WeightsError: the weights are not here and cannot be fetched, or are damaged.
        UnfitClips: the network does not take the corpus's clips.
    """
    # torch takes seconds to import, and plans do without.
    from training.provenance import describe_provenance

    keys = make_tagger_keys(tagger, corpus, splits)
    if all(key in store for key in keys):
        return keys[0]
    logits_NA, weights_sha256 = compute_tags(tagger.backbone, corpus, store, device)
    logits_NK = tagger.class_map.apply(logits_NA)
    record: dict[str, Any] = {
        "kind": "teacher",
        "recipe": {"name": tagger.name},
        "family": "tagger",
        "protocol": "honest",
        "seed": 0,
        "class_map": {name: list(ids) for name, ids in tagger.class_map.ids},
        "weights": tagger.backbone.identity["weights"],
        "weights_sha256": weights_sha256,
        "length": asdict(tagger.backbone.choose_length(corpus.clip_duration_s)),
        "training_s": 0.0,
        **describe_provenance(device),
    }
    for key in keys:
        store.objects.write_json(locate_record("teacher", key.member), record)
        store.write(key, logits_NK, record, row_order=hash_clip_order(corpus))
    return keys[0]


def compute_tags(
    backbone: Backbone, corpus: Corpus, store: LogitStore, device: "torch.device"
) -> tuple[np.ndarray, str]:
    """Return log odds of AudioSet's classes [N, 527] of all clips, and the SHA-256 of the weights."""
    import torch

    from audio.feed import Feed
    from teachers.backbones.opened import TeacherEmbedding

    opened = backbone.open(device, store)
    if not isinstance(opened.network, TeacherEmbedding) or backbone.front_end is None:
        raise TypeError(f"backbone {backbone.name} is no published teacher")
    feed = Feed.open(
        corpus,
        backbone.front_end,
        stored_views(backbone.sample_rate),
        None,
        device,
        length=backbone.choose_length(corpus.clip_duration_s),
    )
    parts = []
    for start in range(0, len(corpus), BATCH):
        rows = np.arange(start, min(start + BATCH, len(corpus)))
        with torch.inference_mode():
            parts.append(opened.network.teacher(feed.make_view(rows, 0))[0].float().cpu().numpy())
    logits_NA = np.concatenate(parts)
    expected = len(list_audioset_ids())
    if logits_NA.shape[1] != expected:
        raise ValueError(
            f"tagger {backbone.name} has {logits_NA.shape[1]} classes, expected AudioSet's {expected}"
        )
    return logits_NA, opened.weights_sha256
