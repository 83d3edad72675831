"""What Ray runs: plain functions that find all they need by name, and are safe to run twice."""

import time
from pathlib import Path

import numpy as np

import ensemble
from audio.clips import Corpus
from audio.corpora import CorpusName
from jobs.cluster import reserved_device
from jobs.command import console, open_corpus
from logit_store import LogitKey, LogitStore, member_name
from students import Soft, StudentRecipe, distill
from teachers import TeacherRecipe, finetune
from training import OnEpoch

SPEAK_EVERY_S = 10.0


def teach(
    recipe: TeacherRecipe,
    corpus: CorpusName,
    root: Path | None,
    store: str,
    split: int,
    seed: int,
    responses: Path | None,
) -> LogitKey:
    """Teach one teacher one split; see `teachers.finetune`."""
    opened, clips = _open(corpus, root, store)
    return finetune(
        recipe,
        clips,
        split,
        seed,
        opened,
        responses=responses,
        device=reserved_device(),
        on_epoch=_speaker(f"{recipe.name} split {split} seed {seed}", recipe.training.max_epochs),
    )


def choose(
    corpus: CorpusName,
    root: Path | None,
    store: str,
    split: int,
    members: tuple[str, ...],
    with_replacement: bool,
    max_members: int | None,
) -> str:
    """Select an ensemble among these members on the `select` clips; its name in the store.

    Members are looked at in the order of their names, so that the same members always give the
    same ensemble.
    """
    opened, clips = _open(corpus, root, store)
    keys = [LogitKey(clips.name, split, member) for member in sorted(members)]
    settings = {"with_replacement": with_replacement, "max_members": max_members}
    hashes = [opened.footer(key).logits_hash for key in keys]
    candidates = tuple({"member": k.member, "hash": h} for k, h in zip(keys, hashes, strict=True))
    name = member_name("stepwise", {"candidates": candidates, "settings": settings})
    if name in opened.ensembles(clips.name, split):
        return name
    rows = clips.rows(split, "select")
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
        "fold": "select",
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
        on_epoch=_speaker(f"{recipe.name} split {split} seed {seed}", recipe.training.max_epochs),
    )


def ensemble_logits(store: LogitStore, corpus: str, split: int, name: str) -> np.ndarray:
    """Weighted mean of the members' logits of all clips, float32 [N, K]."""
    members = store.read_ensemble(corpus, split, name)["members"]
    keys = [LogitKey(corpus, split, member["member"]) for member in members]
    return ensemble.mean_logits(store.read(keys), [member["weight"] for member in members])


def _open(corpus: CorpusName, root: Path | None, store: str) -> tuple[LogitStore, Corpus]:
    opened = LogitStore(store)
    return opened, open_corpus(corpus, root, opened)[0]


def _speaker(name: str, max_epochs: int) -> OnEpoch:
    """Says how a run goes, not more often than every few seconds."""
    spoke = time.monotonic()

    def speak(figures: dict[str, float]) -> None:
        nonlocal spoke
        if time.monotonic() - spoke < SPEAK_EVERY_S:
            return
        spoke = time.monotonic()
        console.print(
            f"{name}: epoch {figures['epoch']}/{max_epochs}, loss {figures['loss']:.3f}, "
            f"log loss on select {figures['select_log_loss']:.3f}"
        )

    return speak
