"""The speed of earlier runs, by their records in the store."""

import dataclasses
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audio.clips import Corpus
from jobs.plan.workload import Workload, count_recorded_clips, describe_pace
from jobs.worker.device import find_device
from logit_store import LogitKey, LogitStore, MissingStore
from terminal.tables import format_count
from training.provenance import describe_machine


@dataclass(frozen=True, slots=True)
class Machine:
    """What runs compute on: the speed of runs on one kind of machine says nothing about another."""

    accelerator: str | None
    """Name of the GPU, as CUDA gives it; None is a CPU."""
    processor: str
    threads: int
    """Threads of a run on a CPU."""

    @classmethod
    def here(cls, threads: int) -> "Machine":
        """Return this machine's GPU if it has one, else this number of threads of its CPU."""
        return cls.of(describe_machine(find_device()) | {"threads": threads})

    @classmethod
    def cpu(cls, threads: int) -> "Machine":
        """Return this number of threads of this machine's CPU, for work that uses no GPU."""
        return cls(None, platform.machine(), threads)

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> "Machine":
        """Return the machine that a record describes."""
        return cls(recorded["accelerator"], recorded["processor"], recorded["threads"])

    @property
    def pace(self) -> tuple[object, ...]:
        """Equal for machines that are equally fast; the host of a GPU hardly matters."""
        return (self.accelerator,) if self.accelerator else (self.processor, self.threads)

    def __str__(self) -> str:
        return (
            self.accelerator
            or f"{self.processor} CPU, {format_count(self.threads, 'thread')} a run"
        )


@dataclass(frozen=True, slots=True)
class RecordedPaces:
    """The speed of earlier runs on a corpus, on one kind of machine."""

    clip_s: dict[str, list[float]]
    """Seconds for each clip that was trained on, judging included, by pace."""
    view_s: dict[str, list[float]]
    """Seconds after the training, for the logits of all clips, by pace."""

    @classmethod
    def read(cls, store: LogitStore, corpus: Corpus, device: Machine) -> "RecordedPaces":
        """Read the records of a store."""
        paces = cls({}, {})
        for key, record in _read_records(store, corpus.name):
            # Imported logits, and logits of other versions, have no such record.
            try:
                fits = Machine.of(record["machine"]).pace == device.pace
                took_s, whole_s = record["training_s"], record["last_attempt_s"]
                n_learnt = count_recorded_clips(record, corpus, key.split)
                pace = describe_pace(record["recipe"], in_int8="quantisation" in record)
                # All models of a cross-fitted teacher predict the clips.
                n_models = record.get("cross_fit", 1)
            except (KeyError, TypeError):
                continue
            if fits and n_learnt:
                paces.clip_s.setdefault(pace, []).append(took_s / n_learnt)
                # If a run was interrupted, its last attempt is only a part of it.
                paces.view_s.setdefault(pace, []).append(max(0.0, whole_s - took_s) / n_models)
        return paces

    def estimate_seconds(self, work: Workload) -> float | None:
        """Return how long a run takes, by the median of similar runs; None if there is none."""
        recipe = dataclasses.asdict(work.pace.recipe)
        pace = describe_pace(recipe, in_int8=work.pace.in_int8)
        if pace not in self.clip_s:
            return None
        learning_s = work.n_learnt * statistics.median(self.clip_s[pace])
        view_s = work.n_models * statistics.median(self.view_s[pace])
        return learning_s + work.n_views * view_s


def _read_records(store: LogitStore, corpus: str) -> list[tuple[LogitKey, dict[str, Any]]]:
    try:
        footers = store.list_footers(corpus)
    except MissingStore:
        return []
    return [(key, footer.record) for key, footer in footers.items()]
