"""What Ray runs: plain functions that find all they need by name, and are safe to run twice."""

from pathlib import Path

import numpy as np
import torch

import ensemble
from audio.clips import Corpus
from audio.corpora import CorpusName
from jobs.cluster import reserved_device
from jobs.command import console, open_corpus
from jobs.tables import duration
from logit_store import LogitKey, LogitStore, member_name
from students import Soft, StudentRecipe, distill
from teachers import TeacherRecipe, TeacherRun, finetune
from teachers.dry_step import DryStep, dry_step
from teachers.finetune import teacher_key
from training import Figures, OnEpoch, Protocol
from training.recipe import judging_fold


def teach(
    run: TeacherRun,
    corpus: CorpusName,
    root: Path | None,
    store: str,
    responses: Path | None,
    n_views: int,
    n_gpus: int = 1,
) -> LogitKey:
    """Teach one teacher one split, on one device or on several GPUs; see `teachers.finetune`."""
    if n_gpus == 1:
        return teach_on(reserved_device(), run, corpus, root, store, responses, n_views)
    # Ray Train takes seconds to import, in every worker, and most runs need none of it.
    from jobs.together import teach_together

    opened, clips = _open(corpus, root, store)
    key = teacher_key(run, clips, responses)
    arguments = (run, corpus, root, store, responses, n_views)
    folder = opened.object_path(f"teachers/v1/{key.member}/train")
    teach_together(arguments, folder, n_workers=n_gpus, use_gpu=True)
    return key


def teach_on(
    device: torch.device,
    run: TeacherRun,
    corpus: CorpusName,
    root: Path | None,
    store: str,
    responses: Path | None,
    n_views: int,
) -> LogitKey:
    """Teach one teacher one split on this device."""
    opened, clips = _open(corpus, root, store)
    fold = judging_fold(run.protocol)
    return finetune(
        run,
        clips,
        opened,
        responses=responses,
        device=device,
        n_views=n_views,
        on_epoch=_speaker(run.name, run.recipe.training.max_epochs, fold),
    )


def measure(
    name: str, recipe: TeacherRecipe, n_classes: int, clip_duration_s: float
) -> tuple[str, DryStep]:
    """The dry step of a recipe on the GPU that Ray reserved for it, under a name."""
    return name, dry_step(recipe, n_classes, clip_duration_s, reserved_device())


def choose(
    corpus: CorpusName,
    root: Path | None,
    store: str,
    split: int,
    members: tuple[str, ...],
    with_replacement: bool,
    max_members: int | None,
    protocol: Protocol,
) -> str:
    """Select an ensemble among these members on the judging clips; its name in the store.

    Members are looked at in the order of their names, so that the same members always give the
    same ensemble.
    """
    opened, clips = _open(corpus, root, store)
    keys = [LogitKey(clips.name, split, member) for member in sorted(members)]
    settings = {"with_replacement": with_replacement, "max_members": max_members}
    fold = judging_fold(protocol)
    hashes = [opened.footer(key).logits_hash for key in keys]
    candidates = tuple({"member": k.member, "hash": h} for k, h in zip(keys, hashes, strict=True))
    name = member_name("stepwise", {"candidates": candidates, "settings": settings, "fold": fold})
    if name in opened.ensembles(clips.name, split):
        return name
    rows = clips.rows(split, fold)
    selection = ensemble.select(opened.read(keys, rows=rows), clips.labels()[rows], **settings)
    weights = {keys[m].member: float(selection.weights[m]) for m in selection.members}
    document = {
        "space": "logits",
        "members": [
            c | {"weight": weights[c["member"]]} for c in candidates if c["member"] in weights
        ],
        "order": [keys[m].member for m in selection.members],
        "losses": list(selection.losses),
        "clips": len(rows),
        "fold": fold,
        "candidates": list(candidates),
        "settings": settings,
    }
    opened.write_ensemble(clips.name, split, name, document)
    return name


def learn(
    recipe: StudentRecipe,
    corpus: CorpusName,
    root: Path | None,
    store: str,
    split: int,
    seed: int,
    responses: Path | None,
    ensemble_name: str | None,
) -> LogitKey:
    """Teach one student one split, from an ensemble or alone; see `students.distill`."""
    opened, clips = _open(corpus, root, store)
    soft = None
    if ensemble_name is not None:
        soft = Soft(ensemble_name, ensemble_logits(opened, clips.name, split, ensemble_name))
    return distill(
        recipe,
        clips,
        split,
        seed,
        opened,
        soft,
        responses=responses,
        device=reserved_device(),
        on_epoch=_speaker(
            f"{recipe.name} split {split} seed {seed}", recipe.training.max_epochs, "select"
        ),
    )


def ensemble_logits(store: LogitStore, corpus: str, split: int, name: str) -> np.ndarray:
    """Weighted mean of the members' logits of all clips, float32 [N, K]."""
    members = store.read_ensemble(corpus, split, name)["members"]
    keys = [LogitKey(corpus, split, member["member"]) for member in members]
    return ensemble.mean_logits(store.read(keys), [member["weight"] for member in members])


def _open(corpus: CorpusName, root: Path | None, store: str) -> tuple[LogitStore, Corpus]:
    opened = LogitStore(store)
    return opened, open_corpus(corpus, root, opened)[0]


def _speaker(name: str, max_epochs: int, fold: str) -> OnEpoch:
    """Says how a run goes: a line an epoch."""

    def speak(figures: Figures) -> None:
        console.print(
            f"{name}: epoch {figures['epoch']}/{max_epochs}, loss {figures['loss']:.3f}, "
            f"on {fold}: log loss {figures[f'{fold}_log_loss']:.3f}, macro accuracy "
            f"{100 * figures[f'{fold}_accuracy']:.1f} %; {figures['clips_per_s']:.0f} clips/s, "
            f"at most {duration(figures['time_left_s'])} left",
            markup=False,
        )

    return speak
