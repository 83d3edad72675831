"""What a proof's systems come to on the test clips: scores and gains, as text.

The figures are those of `report.summary`, which the report shows too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audio.clips import Corpus
from benchmarks.results import format_table
from ensemble.stored import compute_ensemble_logits
from logit_store import LogitKey, LogitStore, strip_fingerprint
from metrics import Interval
from report.as_text import SCORES, format_scores, read_system
from report.costs import read_ensemble_cost, read_member_cost
from report.summary import (
    TOO_FEW_SEEDS,
    JudgedClips,
    Summary,
    System,
    compare_systems,
    has_verdict,
    summarise,
)
from report.systems import SystemKind

GAIN, LOSS, NEITHER = "gain", "loss", "not told from chance"
"""Verdicts on a difference: its interval is above 0, below it, or contains it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvedSystem:
    """A system of a proof on one split, as it is found in the store."""

    name: str
    kind: SystemKind
    split: int
    keys: tuple[LogitKey, ...]
    """Keys of its logits, one for each seed; of an ensemble, those of its members."""
    reference: str | None = None
    """NAME@HASH of an ensemble; None for others."""
    against: str | None = None
    """Name of the system with which it is compared; None if it is compared with none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedTeacher:
    """A teacher of a proof that has no logits."""

    name: str
    split: int
    error: str
    """How its run ended, in one line."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class JudgedSystem:
    """A system with its logits and its scores on test."""

    system: ProvedSystem
    logits: System
    summary: Summary
    records: tuple[Mapping[str, Any], ...]
    """The records of its keys."""

    @property
    def n_seeds(self) -> int:
        """The number of runs that its scores are the mean of."""
        return len(self.logits.logits_ANK)

    @property
    def training_s(self) -> float | None:
        """Seconds of training of one run; of an ensemble, of all its members."""
        read = read_ensemble_cost if self.system.kind == "ensemble" else read_member_cost
        return read(self.records).training_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """How much better a system is than another on the same test clips, paired by seeds."""

    name: str
    against: str
    split: int
    n_seeds: int
    difference: Interval
    """Of macro accuracies."""
    unseen: Interval | None
    """On recording devices that are not in the training clips; None if test has none of them."""

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if not has_verdict(self.n_seeds):
            return TOO_FEW_SEEDS
        if self.difference.low > 0:
            return GAIN
        return LOSS if self.difference.high < 0 else NEITHER


def judge(corpus: Corpus, store: LogitStore, system: ProvedSystem) -> JudgedSystem:
    """Judge a system on the test clips of its split.

    Raises:
        LogitStoreError: its logits are not in the store, or must not be used.
    """
    footers = store.read_footers(system.keys)
    if system.reference is None:
        logits = read_system(store, system.name, system.keys)
    else:
        mean_NK = compute_ensemble_logits(store, corpus.name, system.split, system.reference)
        logits = System(system.name, system.split, [mean_NK])
    return JudgedSystem(
        system=system,
        logits=logits,
        summary=summarise(corpus, logits),
        records=tuple(footers[key].record for key in system.keys),
    )


def measure_gains(corpus: Corpus, judged: Sequence[JudgedSystem]) -> Iterator[Gain]:
    """Yield the gain of each system that is compared with another one of its split."""
    by_name = {(each.system.split, each.system.name): each for each in judged}
    for each in judged:
        system = each.system
        if system.against is None:
            continue
        pair = by_name[system.split, system.against].logits, each.logits
        clips = JudgedClips.of(corpus, system.split)
        # An interval takes two groups at least.
        has_unseen = len(np.unique(clips.groups[~clips.seen])) > 1
        yield Gain(
            name=system.name,
            against=system.against,
            split=system.split,
            n_seeds=each.n_seeds,
            difference=compare_systems(corpus, *pair).difference,
            unseen=compare_systems(corpus, *pair, unseen_only=True).difference
            if has_unseen
            else None,
        )


def format_systems(judged: Sequence[JudgedSystem]) -> str:
    """Return a Markdown table of systems of one split."""
    header = ["system", "seeds", *SCORES, "s a run"]
    rows = [
        [
            each.system.name,
            str(each.n_seeds),
            *format_scores(each.summary),
            "-" if each.training_s is None else f"{each.training_s:.1f}",
        ]
        for each in judged
    ]
    return format_table(header, rows)


def format_gains(gains: Sequence[Gain]) -> str:
    """Return a Markdown table of gains of one split, in points."""
    header = ["system", "against", "seeds", "gain", "on unseen devices", "verdict"]
    rows = [
        [
            each.name,
            each.against,
            str(each.n_seeds),
            _format_points(each.difference),
            "-" if each.unseen is None else _format_points(each.unseen),
            each.verdict,
        ]
        for each in gains
    ]
    return format_table(header, rows)


def _format_points(gain: Interval) -> str:
    value, low, high = (100 * each for each in (gain.value, gain.low, gain.high))
    return f"{value:+.1f} ({low:+.1f} ... {high:+.1f})"


def count_verdicts(gains: Sequence[Gain]) -> str:
    """Say how many of the gains over a student alone are more than chance, and how many less."""
    counts = {
        word: sum(each.verdict == word for each in gains)
        for word in (GAIN, LOSS, NEITHER, TOO_FEW_SEEDS)
    }
    said = "; ".join(f"{word}: {count}" for word, count in counts.items() if count)
    return f"Of {len(gains)} comparisons: {said}."


def describe_choice(store: LogitStore, corpus: str, judged: Sequence[JudgedSystem]) -> str:
    """Say what the `select` clips chose on a split: the members of its ensemble, and their weights."""
    ensemble = next(each.system for each in judged if each.system.kind == "ensemble")
    document = store.ensembles.read(corpus, ensemble.split, str(ensemble.reference))
    members = ", ".join(
        f"{strip_fingerprint(each['member'])} ({each['weight']:.2f})"
        for each in document["members"]
    )
    n_candidates = len(document["candidates"])
    return (
        f"Chosen on {document['clips']} `{document['fold']}` clips: the ensemble, of {n_candidates} "
        f"candidates these members (weights): {members}; and the epoch that each fine-tuned teacher keeps. "
        "The probe's penalty was chosen within `fit`."
    )
