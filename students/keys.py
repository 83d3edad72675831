"""Where the logits of a student are: what their names are made of, known before it is trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio import impulse_responses
from audio.clips import Corpus
from audio.modulation import find_pairs
from audio.views import SpectrumModulation
from logit_store import LogitKey, strip_fingerprint
from students.catalogue import ARCHITECTURES
from students.checks import check_embeddings, refuse_pool, refuse_several
from students.groups import check_groups
from students.pools import StudentPool
from students.recipe import Int8Recipe, StudentRecipe
from students.records import restore_recipe
from students.stages import DeviceStage, Start
from training import make_member_key


def make_student_key(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    responses: Path | None,
    ensemble: str | None,
    pool: StudentPool | None = None,
    start: Start | None = None,
    *,
    embeddings: Sequence[str] = (),
) -> LogitKey:
    """Return the key of such a student's logits.

    Args:
        recipe: the student's recipe.
        corpus: the corpus that it is trained on.
        split: 5, 10, 25, 50 or 100.
        seed: the seed of everything random.
        responses: folder of impulse responses; None is the synthetic set.
        ensemble: name of its teachers; None for a student without teachers.
        pool: the clips without labels that it learns from too; None for a student without a pool.
        start: the member whose weights it starts from, the result of a stage before.
        embeddings: names in the store of the embeddings of view 0 that its features are to predict.

    Raises:
        ValueError: the recipe distils and there is no ensemble, or the reverse; or the recipe needs
            groups of scenes, and the corpus has a scene without a group; or it cannot learn from a
            pool, or from clips with several labels; or it learns from embeddings and there are none, or the
            reverse.
        CorpusError: it gives clips the colours of other devices, and the clips show none.
    """
    if (recipe.distillation is None) != (ensemble is None):
        raise ValueError(
            f"student recipe {recipe.name} with distillation {recipe.distillation} and ensemble "
            f"{ensemble}: a student that distils needs an ensemble, one alone takes none"
        )
    refuse_several(recipe, corpus)
    check_embeddings(recipe, embeddings)
    if isinstance(recipe.augmentation, SpectrumModulation):
        find_pairs(corpus, split)
    if recipe.two_tasks:
        check_groups(corpus.scenes)
    identity: dict[str, Any] = {"recipe": recipe, "ensemble": ensemble}
    # What is not used is not in the fingerprint: students of before pools keep their names.
    if pool is not None:
        refuse_pool(recipe)
        identity["pool"] = pool.identify()
    if start is not None:
        identity["start"] = start.key.member
    if embeddings:
        identity["embeddings"] = list(embeddings)
    name = _name_student(recipe, pool, start)
    return make_member_key(name, corpus, split, seed, responses, identity)


def _name_student(recipe: StudentRecipe, pool: StudentPool | None, start: Start | None) -> str:
    """Return the name of a student, which tells those with a pool from those without."""
    name = recipe.name if start is None else f"{recipe.name}{start.suffix}"
    return name if pool is None or pool.use.alone else f"{name}_pool"


def make_device_key(
    general: LogitKey, seed: int, stage: DeviceStage, corpus: Corpus, responses: Path | None
) -> LogitKey:
    """Return the key of the logits of a student that has a network for each known recording device.

    Args:
        general: the key of the student that its networks start from.
        seed: the seed of everything random.
        stage: how its networks are fine-tuned.
        corpus: the corpus that all are trained on.
        responses: folder of impulse responses of the general student; None is the synthetic set.
    """
    name = f"{strip_fingerprint(general.member)}_per_device"
    identity = {"specialised_from": general.member, "stage": stage}
    return make_member_key(name, corpus, general.split, seed, responses, identity)


def make_int8_key(
    start: LogitKey,
    record: dict[str, Any],
    settings: Int8Recipe,
    corpus: Corpus,
    responses: Path | None,
) -> LogitKey:
    """Return the key of the logits of a student that was fine-tuned in int8.

    Args:
        start: the key of the student that it starts from.
        record: the record of that student.
        settings: how it is fine-tuned.
        corpus: the corpus that both are trained on.
        responses: folder of impulse responses; None is the synthetic set.

    Raises:
        NoStudent: `start` is not a student, or was written by another version.
        ValueError: it was fine-tuned in int8 already, it was trained with other impulse responses, or
            its way of learning has no int8 form.
    """
    recipe = restore_recipe(record, start)
    if "per_device" in record:
        raise ValueError(
            f"{start} has a network for each recording device, which are submitted at fp16: name its "
            f"general student, {record['start']}"
        )
    if "quantisation" in record:
        raise ValueError(f"{start} was fine-tuned in int8 already: name {record['quantised_from']}")
    before, now = record["responses"], impulse_responses.identify_responses(responses)
    if before != now:
        raise ValueError(
            f"{start} was trained with the impulse responses {before}, these are {now}: name the same "
            "folder"
        )
    if recipe.challenge is not None and ARCHITECTURES[recipe.model].has_folded_head:
        raise ValueError(
            f"{start} was trained with {recipe.challenge}, which needs a classifier of its own; in "
            f"int8 that of {recipe.model} is a part of other layers: export it without fine-tuning"
        )
    name = f"{strip_fingerprint(start.member)}_int8"
    identity = {"quantised_from": start.member, "settings": settings}
    return make_member_key(name, corpus, start.split, record["seed"], responses, identity)
