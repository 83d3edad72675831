"""A store like one that commands have written, with made-up logits, so that nothing has to be trained."""

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tiny import tiny_corpus

from audio.clips import Corpus
from audio.parts import find_judging_rows
from logit_store import LogitKey, LogitStore
from report.results import JudgedSystem
from students import RECIPES, drop_teachers

N_EPOCHS = 5
PROVENANCE = {
    "commit": "c0ffee",
    "versions": {"torch": "2.11.0"},
    "machine": {"accelerator": None, "processor": "x86_64", "threads": 1, "python": "3.11"},
}
OPTIMISM = {
    "selected_on": 0.8,
    "nested": 0.9,
    "optimism": {"value": 0.1, "low": -0.1, "high": 0.3},
    "n_folds": 3,
}


def make_several(corpus: Corpus) -> Corpus:
    """Return a corpus with a further class in every other clip, and none at all in every seventh."""
    scenes = [
        "|" if row % 7 == 0 else f"|{scene}|rain|" if row % 2 else f"|{scene}|"
        for row, scene in enumerate(corpus.column("scene").tolist())
    ]
    place = corpus.table.column_names.index("scene")
    return replace(corpus, table=corpus.table.set_column(place, "scene", pa.array(scenes)))


class ReportStore:
    """A new store of the corpus of tones, and methods that add members and ensembles."""

    def __init__(self, folder: Path, *, several: bool = False) -> None:
        self.corpus: Corpus = tiny_corpus(folder)
        if several:
            self.corpus = make_several(self.corpus)
        self.store = LogitStore(folder / "store")
        self.store.write_clips(self.corpus.name, self.corpus.clips_table())

    def member(
        self,
        name: str,
        number: int,
        skill: float,
        *,
        kind: str = "teacher",
        seed: int = 0,
        split: int = 100,
        **more: Any,
    ) -> LogitKey:
        """Store logits that know the labels as well as `skill` says, and the record of a run.

        `number` makes the member's name unique."""
        key = LogitKey(self.corpus.name, split, f"{name}-{number:012x}")
        n_classes, truth = len(self.corpus.scenes), self.corpus.truth()
        noise_NK = np.random.default_rng(number).standard_normal((len(self.corpus), n_classes))
        right_NK = truth if truth.ndim == 2 else np.eye(n_classes)[truth]
        record = {
            "kind": kind,
            "recipe": {"name": name},
            "protocol": "honest",
            "seed": seed,
            "training_s": 60.0 * number,
            **PROVENANCE,
            **more,
        }
        fold = "test" if record["protocol"] == "published" else "select"
        history = [
            {
                "epoch": epoch,
                "loss": number / epoch,
                f"{fold}_log_loss": number + 1 / epoch,
                f"{fold}_accuracy": 0.5,
            }
            for epoch in range(1, N_EPOCHS + 1)
        ]
        content = json.dumps(record | {"history": history}).encode()
        self.store.objects.write(f"{kind}s/v1/{key.member}/record.json", content)
        self.store.write(key, noise_NK + skill * right_NK, record)
        return key

    def student(
        self,
        number: int,
        skill: float,
        *,
        taught_by: str | None,
        seed: int,
        split: int = 100,
        **pools: Any,
    ) -> LogitKey:
        """Store a student of the demo, taught by an ensemble or a member, or trained alone.

        `pools` are entries `pool` and `first_pool` of its record."""
        recipe = RECIPES["demo_isotropic"]
        settings = asdict(recipe if taught_by else drop_teachers(recipe))
        more = {"recipe": settings, "ensemble": taught_by, "macs": 1_000_000, "params": 10_000}
        more |= pools
        return self.member(
            settings["name"], number, skill, kind="student", seed=seed, split=split, **more
        )

    def ensemble(
        self, name: str, keys: list[LogitKey], *, split: int = 100, fold: str = "select"
    ) -> str:
        """Store a mean of members as a selection would, and return NAME@HASH.

        The first member has the largest weight."""
        weights = [
            float(2 * (len(keys) - n) / len(keys) / (len(keys) + 1)) for n in range(len(keys))
        ]
        members = [
            {"member": key.member, "hash": self.store.read_footer(key).logits_hash}
            | {"weight": weight, "temperature": 1.0}
            for key, weight in zip(keys, weights, strict=True)
        ]
        document = {
            "space": "logits",
            "members": members,
            "order": [key.member for key in keys],
            "losses": [1.0 / step for step in range(1, len(keys) + 1)],
            "clips": len(find_judging_rows(self.corpus.table, split, fold)),
            "fold": fold,
            "candidates": [{"member": each["member"], "hash": each["hash"]} for each in members],
            "settings": {"metric": "log_loss"},
            "temperature": 1.0,
            "optimism": OPTIMISM,
        }
        return self.store.ensembles.write(self.corpus.name, split, name, document)


def report_store(
    folder: Path, *, several: bool = False, splits: Sequence[int] = (25, 100)
) -> ReportStore:
    """Return a store with four teachers, an ensemble of two, and students, on each split.

    Students are taught by the ensemble or alone, with two seeds each."""
    made = ReportStore(folder, several=several)
    for split in splits:
        keys = [
            made.member(f"teacher_{skill}", split + skill, skill / 2, split=split)
            for skill in (1, 2, 3, 4)
        ]
        reference = made.ensemble("stepwise", [keys[3], keys[2]], split=split)
        for seed in (0, 1):
            made.student(1000 + split + seed, 0.8, taught_by=None, seed=seed, split=split)
            made.student(2000 + split + seed, 1.6, taught_by=reference, seed=seed, split=split)
    return made


@functools.cache
def slow_logits(made: ReportStore, system: JudgedSystem) -> list[np.ndarray]:
    """A system's logits of its test clips, a seed after the other, in the plainest way."""
    rows = made.corpus.rows(system.split, "test")
    if not system.reference:
        return [made.store.read([key])[0][rows] for key in system.keys]
    mean_PK = np.zeros((len(rows), 3))
    for member in system.document["members"]:
        key = LogitKey(made.corpus.name, system.split, member["member"])
        mean_PK += member["weight"] * made.store.read([key])[0][rows]
    return [mean_PK]
