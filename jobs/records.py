"""How fast earlier runs were, by the records that a store keeps of them."""

import dataclasses
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from audio.clips import Corpus
from jobs.work import Work, clips_learnt_by, pace_of
from logit_store import LogitKey, LogitStore, MissingStore
from training.provenance import machine


@dataclass(frozen=True, slots=True)
class Device:
    """Where runs compute: those on another kind of device say nothing of these."""

    accelerator: str | None
    """Its name as CUDA says it; None is a CPU."""
    processor: str
    threads: int
    """Of a run on a CPU."""

    @classmethod
    def here(cls, threads: int) -> "Device":
        """This machine's GPU if it has one, else so many threads of its CPU."""
        return cls.of(machine(device_here()) | {"threads": threads})

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Device":
        """That of a machine as records tell it."""
        return cls(told["accelerator"], told["processor"], told["threads"])

    @property
    def pace(self) -> tuple[object, ...]:
        """Equal for devices that are equally fast; what a GPU's host is hardly matters."""
        return (self.accelerator,) if self.accelerator else (self.processor, self.threads)

    def __str__(self) -> str:
        return self.accelerator or f"{self.processor} CPU, {self.threads} threads a run"


@dataclass(frozen=True, slots=True)
class Paces:
    """How fast earlier runs on a corpus were, on one kind of device."""

    clip_s: dict[str, list[float]]
    """By what decides it: seconds for each clip that was learnt, judging included."""
    view_s: dict[str, list[float]]
    """What came after the learning: the logits of all clips."""

    @classmethod
    def read(cls, store: LogitStore, corpus: Corpus, device: Device) -> "Paces":
        """Those of the runs that the store has records of."""
        paces = cls({}, {})
        for key, record in _records(store, corpus.name):
            # Logits that were imported, or made by another version, have no such record.
            try:
                fits = Device.of(record["machine"]).pace == device.pace
                took_s, whole_s = record["training_s"], record["last_attempt_s"]
                n_learnt = clips_learnt_by(record, corpus, key.split)
                pace = pace_of(record["recipe"], in_int8="quantisation" in record)
            except (KeyError, TypeError):
                continue
            if fits and n_learnt:
                paces.clip_s.setdefault(pace, []).append(took_s / n_learnt)
                # Of a run that was interrupted, the last attempt is only a part.
                paces.view_s.setdefault(pace, []).append(max(0.0, whole_s - took_s))
        return paces

    def seconds(self, work: Work) -> float | None:
        """How long a run takes, by the median of those that were like it; None if there is none."""
        recipe = dataclasses.asdict(work.kind.recipe)
        pace = pace_of(recipe, in_int8=work.kind.in_int8)
        if pace not in self.clip_s:
            return None
        learning_s = work.n_learnt * statistics.median(self.clip_s[pace])
        return learning_s + work.n_views * statistics.median(self.view_s[pace])


def _records(store: LogitStore, corpus: str) -> list[tuple[LogitKey, dict[str, Any]]]:
    try:
        keys = store.keys(corpus)
    except MissingStore:
        return []
    return [(key, footer.record) for key, footer in store.footers(keys).items()]


def device_here() -> torch.device:
    """This machine's GPU if it has one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
