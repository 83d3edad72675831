"""Where a run leaves what it makes: the key of its logits and the names of its objects."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from audio import impulse_responses
from audio.clips import Corpus
from logit_store import LogitKey, hash_row_order, name_member

MemberKind = Literal["teacher", "student"]


def make_member_key(
    name: str,
    corpus: Corpus,
    split: int,
    seed: int,
    responses: Path | None,
    identity: Mapping[str, Any],
) -> LogitKey:
    """Return the key of a member's logits, with a fingerprint of everything that changes them.

    Args:
        name: what people call the member.
        corpus: whose clips it learns from.
        split: the percentage of the training clips.
        seed: of everything random.
        responses: folder of impulse responses; None for the synthetic set.
        identity: the recipe and whatever else changes the member.
    """
    everything = {
        "corpus": corpus.compute_identity(),
        "split": split,
        "seed": seed,
        "responses": impulse_responses.identify_responses(responses),
        **identity,
    }
    return LogitKey(corpus.name, split, name_member(name, everything))


def hash_clip_order(corpus: Corpus) -> str:
    """Return what stands for the clips and their order, which the store compares with its own."""
    return hash_row_order(corpus.table["clip_id"].to_pylist())


def list_view_keys(key: LogitKey, n_views: int) -> tuple[LogitKey, ...]:
    """Return the keys of views 0 to n_views - 1 of a member."""
    return tuple(replace(key, view=view) for view in range(n_views))


def locate_weights(kind: MemberKind, member: str, part: int | None = None) -> str:
    """Return the name of the object that holds a member's weights, or those of one of its models.

    The models of a cross-fitted member are counted from 1.
    """
    return f"{_locate(kind, member, part)}/weights.safetensors"


def locate_record(kind: str, member: str, part: int | None = None) -> str:
    """Return the name of the object that holds a member's record and the metrics of its epochs.

    Each model of a cross-fitted member has one too; they are counted from 1.
    """
    return f"{_locate(kind, member, part)}/record.json"


def _locate(kind: str, member: str, part: int | None) -> str:
    folder = f"{kind}s/v1/{member}"
    return folder if part is None else f"{folder}/part_{part}"
