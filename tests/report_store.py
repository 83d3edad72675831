"""A store as commands leave it, with made-up logits: no run has to learn for it."""

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tiny import tiny_corpus

from audio.clips import Corpus
from logit_store import LogitKey, LogitStore
from report.results import Judged
from students import RECIPES, alone

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


class ReportStore:
    """Puts members and ensembles into a new store of the corpus of tones."""

    def __init__(self, folder: Path) -> None:
        self.corpus: Corpus = tiny_corpus(folder)
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
        """Store logits that know the labels so well, and the record of a run; `number` is unique."""
        key = LogitKey(self.corpus.name, split, f"{name}-{number:012x}")
        noise_NK = np.random.default_rng(number).standard_normal((len(self.corpus), 3))
        right_NK = np.eye(3)[self.corpus.labels()]
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
        told = json.dumps(record | {"history": history}).encode()
        self.store.write_object(f"{kind}s/v1/{key.member}/record.json", told)
        self.store.write(key, noise_NK + skill * right_NK, record)
        return key

    def student(
        self, number: int, skill: float, *, taught_by: str | None, seed: int, split: int = 100
    ) -> LogitKey:
        """Store a student of the demo, taught by an ensemble or a member, or alone."""
        recipe = RECIPES["demo_isotropic"]
        told = asdict(recipe if taught_by else alone(recipe))
        more = {"recipe": told, "ensemble": taught_by, "macs": 1_000_000, "params": 10_000}
        return self.member(
            told["name"], number, skill, kind="student", seed=seed, split=split, **more
        )

    def ensemble(
        self, name: str, keys: list[LogitKey], *, split: int = 100, fold: str = "select"
    ) -> str:
        """Store a mean of members as if it had been selected, the first the heaviest; NAME@HASH."""
        weights = [
            float(2 * (len(keys) - n) / len(keys) / (len(keys) + 1)) for n in range(len(keys))
        ]
        members = [
            {"member": key.member, "hash": self.store.footer(key).logits_hash}
            | {"weight": weight, "temperature": 1.0}
            for key, weight in zip(keys, weights, strict=True)
        ]
        document = {
            "space": "logits",
            "members": members,
            "order": [key.member for key in keys],
            "losses": [1.0 / step for step in range(1, len(keys) + 1)],
            "clips": len(self.corpus.rows(split, fold)),
            "fold": fold,
            "candidates": [{"member": each["member"], "hash": each["hash"]} for each in members],
            "settings": {"metric": "log_loss"},
            "temperature": 1.0,
            "optimism": OPTIMISM,
        }
        return self.store.write_ensemble(self.corpus.name, split, name, document)


def report_store(folder: Path) -> ReportStore:
    """Four teachers, an ensemble of two, students of it and alone with two seeds; on two splits."""
    made = ReportStore(folder)
    for split in (25, 100):
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
def slow_logits(made: ReportStore, system: Judged) -> list[np.ndarray]:
    """A system's logits of its test clips, a seed after the other, in the plainest way."""
    rows = made.corpus.rows(system.split, "test")
    if not system.reference:
        return [made.store.read([key])[0][rows] for key in system.keys]
    mean_PK = np.zeros((len(rows), 3))
    for member in system.document["members"]:
        key = LogitKey(made.corpus.name, system.split, member["member"])
        mean_PK += member["weight"] * made.store.read([key])[0][rows]
    return [mean_PK]
