"""Writes docs/results.md, and the picture of all gains beside it, from the stores of proofs."""

import datetime
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa
import torch
import vl_convert

from audio.clips import Corpus
from benchmarks.proof_commands import (
    LATER_SPLIT,
    N_VIEWS,
    WHOLE,
    Proof,
    find_failures,
    find_later_systems,
    find_systems,
)
from benchmarks.proof_published import describe_published
from benchmarks.proof_tables import (
    GAIN,
    LOSS,
    FailedTeacher,
    Gain,
    JudgedSystem,
    count_verdicts,
    describe_choice,
    format_gains,
    format_systems,
    judge,
    measure_gains,
)
from benchmarks.results import format_machine
from disk import write_whole
from logit_store import LogitStore, strip_fingerprint
from report.colours import KIND_COLOURS, NEUTRAL
from report.summary import describe_intervals, name_groups
from students import RECIPES
from terminal.console import progress_bar
from terminal.tables import format_count, format_duration
from training import find_commit

ROOT_WORD = "FOLDER"
"""What the page says for the folder of a corpus."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Proved:
    """A proof on one corpus that is done: its systems, judged on test."""

    proof: Proof
    corpus: Corpus
    store: LogitStore
    judged: tuple[JudgedSystem, ...]
    gains: tuple[Gain, ...]
    failures: tuple[FailedTeacher, ...] = ()
    later: tuple[JudgedSystem, ...] = ()
    """The later students, which are compared apart."""
    later_gains: tuple[Gain, ...] = ()

    @classmethod
    def read(cls, proof: Proof, corpus: Corpus, store: LogitStore) -> "Proved":
        """Judge all systems of a proof.

        Raises:
            UserError, LogitStoreError: one is not in the store.
        """
        systems = find_systems(proof, corpus, store)
        later_systems = find_later_systems(proof, corpus, store)
        with progress_bar() as bar:
            all_judged = tuple(
                judge(corpus, store, each)
                for each in bar.track(
                    [*systems, *later_systems], description=f"{corpus.name}: intervals"
                )
            )
        judged, later = all_judged[: len(systems)], all_judged[len(systems) :]
        return cls(
            proof=proof,
            corpus=corpus,
            store=store,
            judged=judged,
            gains=tuple(measure_gains(corpus, judged)),
            failures=tuple(find_failures(proof, corpus, store)),
            later=later,
            later_gains=tuple(measure_gains(corpus, later)),
        )

    @property
    def training_s(self) -> float:
        """Seconds of training of all its runs together, each counted once."""
        own = [each for each in (*self.judged, *self.later) if each.system.kind != "ensemble"]
        return sum(each.n_seeds * (each.training_s or 0) for each in own)


def write_page(page: Path, proved: Sequence[Proved], took_s: float) -> None:
    """Write the page and its picture.

    Args:
        page: a Markdown file; the picture gets its name with the ending .svg.
        proved: the corpora, in their order on the page.
        took_s: seconds that all commands took, of several attempts together.
    """
    picture = page.with_suffix(".svg")
    write_whole(picture, draw_gains(proved).encode())
    write_whole(page, describe_results(proved, took_s, picture.name).encode())


def describe_results(proved: Sequence[Proved], took_s: float, picture: str) -> str:
    """Return the page, in Markdown.

    Args:
        proved: the corpora.
        took_s: seconds that all commands took, of several attempts together.
        picture: name of the picture, in the same folder.
    """
    gains = [gain for each in proved for gain in (*each.gains, *each.later_gains)]
    parts = [
        "# Results",
        _describe_origin(proved, took_s),
        _describe_what_is_shown(proved),
        _describe_verdicts(gains),
        (
            f"![Gains over the student alone, with their intervals]({picture})\n\nFilled points: the interval of "
            "three seeds or more does not contain 0. Later students are in their table only."
        ),
        *(_describe_corpus(each) for each in proved),
    ]
    if len(proved) == 1:
        parts.append(
            "## A second corpus\n\nNone was given, so none is shown: `make proof SCENES=FOLDER` adds one in the "
            "layout of TAU."
        )
    parts += [describe_published(proved), _describe_student(proved), _describe_commands(proved)]
    return "\n\n".join(parts) + "\n"


def _describe_verdicts(gains: Sequence[Gain]) -> str:
    return (
        f"**{count_verdicts(gains)}** With so many comparisons, about one in twenty would be called a gain "
        "or a loss by chance if there were none."
    )


def _describe_origin(proved: Sequence[Proved], took_s: float) -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    training_s = sum(each.training_s for each in proved)
    limit = proved[0].proof.max_steps
    tried = "" if limit is None else f"**Tried out with {limit} steps a run: no result.** "
    return (
        f"{tried}Written by `make proof` on {today}, commit {find_commit() or 'unknown'}, on "
        f"{format_count(os.cpu_count() or 1, 'core')}: {format_machine(torch.device('cpu'))}. All "
        f"commands took {format_duration(took_s)}, the training of all runs "
        f"{format_duration(training_s)} together."
    )


def _describe_what_is_shown(proved: Sequence[Proved]) -> str:
    seeds = format_count(len(proved[0].proof.seeds), "seed")
    over = "; ".join(
        dict.fromkeys(f"of {each.corpus.name} {describe_intervals(each.corpus)}" for each in proved)
    )
    return f"""Every system that was trained is here, losses too. No clip of `test` chose anything: only this page and the
report look at them. Students have {seeds}, paired with those of the student alone; teachers, the probe and
the ensemble have one. All students of a split learn from the same ensemble.

- distilled: from the soft labels of the ensemble, on the labelled clips. pool: also on the clips that the
  split leaves out, whose labels nobody reads (split {WHOLE} leaves none out). views: each clip in {N_VIEWS} views,
  each with the soft labels of this view. adversarial: against the device discriminator.
- accuracy: macro average in % on the test clips, as a mean over seeds, with its 95 % interval; +-: standard
  deviation over seeds. seen, unseen: on recording devices that are, are not in the training clips. log loss
  in nats. s a run: seconds of training on one core of a machine that others may use at the same time, without
  starting and decoding; of the ensemble, of all its members.
- gain: macro accuracy minus that of the student alone, in points, on the same clips with the same seeds. A
  verdict other than "{GAIN}" and "{LOSS}" means that the interval contains 0, or that there are too few seeds.
- Intervals: {over}."""


_OTHER_CORPUS = (
    "The clips of SCENES=FOLDER, in the layout of TAU; its classes say whether it is TAU itself."
)


def _describe_corpus(proved: Proved) -> str:
    corpus = proved.corpus
    drawn = name_groups(has_sources=corpus.has_sources)
    classes = f"{len(corpus.scenes)} classes: {', '.join(corpus.scenes)}"
    lines = [
        f"## {corpus.name}",
        *(() if proved.proof.root is None else (_OTHER_CORPUS,)),
        f"{len(corpus):,} clips of {len(set(corpus.groups())):,} {drawn}, {classes}.",
        *(_describe_embeddings(proved)),
    ]
    splits = [_describe_split(proved, split) for split in proved.proof.splits]
    return "\n\n".join([*lines, *splits, *_describe_later(proved)])


def _describe_later(proved: Proved) -> list[str]:
    """Return the part about later students, if they were compared."""
    if not proved.later:
        return []
    return [
        f"### {proved.corpus.name}, split {LATER_SPLIT}: three later students",
        (
            "TF-SepNet with 40 channels, CNN-GRU and Rep-Mobile ([what they are](students.md#three-later-students)), "
            "each alone, taught by the best single teacher, by the ensemble of the table for this split, also "
            "against the device discriminator, and from views too. Steps and batches are those of "
            "`demo_isotropic`; the other settings are each student's own, so that a difference between two "
            "students is one of recipes and not of architectures alone. A gain is over the same student alone."
        ),
        format_systems(proved.later),
        format_gains(proved.later_gains),
    ]


def _describe_embeddings(proved: Proved) -> list[str]:
    """Say how long the embeddings took, which the seconds of probes leave out."""
    embeddings = proved.store.embeddings
    seconds: dict[str, list[float]] = {}
    for key in embeddings.keys(proved.corpus.name, view=None):
        record = embeddings.read_footer(key).record
        seconds.setdefault(strip_fingerprint(key.backbone), []).append(record["embedding_s"])
    return [
        f"The embeddings of {name} took {np.mean(each):.0f} s a view, once for all splits; the seconds of probes "
        "leave that out."
        for name, each in seconds.items()
    ]


def _describe_split(proved: Proved, split: int) -> str:
    corpus = proved.corpus
    judged = [each for each in proved.judged if each.system.split == split]
    gains = [each for each in proved.gains if each.split == split]
    parts = [
        f"### {corpus.name}, split {split}",
        _describe_clips(corpus, split, judged),
        format_systems(judged),
        *(
            f"**{each.name} failed**, so it has no row and was no candidate: {each.error}"
            for each in proved.failures
            if each.split == split
        ),
        format_gains(gains),
        describe_choice(proved.store, corpus.name, judged),
    ]
    return "\n\n".join(parts)


def _describe_clips(corpus: Corpus, split: int, judged: Sequence[JudgedSystem]) -> str:
    n_fit, n_select, n_test = (len(corpus.rows(split, f)) for f in ("fit", "select", "test"))
    groups = len(set(corpus.groups()[corpus.rows(split, "test")]))
    pools = [pool for each in judged if (pool := each.records[0].get("pool"))]
    pool = f"{pools[0]['clips']} without labels as pool" if pools else "none left out for a pool"
    return (
        f"{n_fit} clips to learn, {n_select} to select, {pool}; {n_test} test clips of {groups} "
        f"{name_groups(has_sources=corpus.has_sources)}."
    )


def _describe_student(proved: Sequence[Proved]) -> str:
    name = proved[0].proof.student
    recipe, record = RECIPES[name], _find_student_record(proved)
    training = recipe.training
    per_epoch = training.clips_per_epoch
    clips = "all clips" if per_epoch is None else f"{per_epoch} clips"
    return (
        f"## The student\n\n`{name}` of students/recipes.py: {record['params']:,} parameters, "
        f"{record['macs']:,} multiply-accumulates a clip; {training.max_epochs} epochs of {clips}, "
        f"{training.batch_size} at a time; weights kept: {training.keep}."
    )


def _find_student_record(proved: Sequence[Proved]) -> Mapping[str, Any]:
    return next(
        each.records[0] for one in proved for each in one.judged if each.system.kind == "student"
    )


def _describe_commands(proved: Sequence[Proved]) -> str:
    lines = [
        shlex.join(words)
        for each in proved
        for words in each.proof.list_commands(ROOT_WORD if each.proof.root else None)
    ]
    commands = "\n".join(["source .venv/bin/activate", *lines])
    return (
        "## The commands\n\n`make proof` types these, and continues after any interruption where it stopped:\n\n"
        f"```sh\n{commands}\n```"
    )


def draw_gains(proved: Sequence[Proved]) -> str:
    """Draw all gains with their intervals, a column for each split and a row for each corpus: SVG."""
    rows = [
        {
            "corpus": each.corpus.name,
            "split": f"split {gain.split}",
            "system": gain.name,
            "gain": 100 * gain.difference.value,
            "low": 100 * gain.difference.low,
            "high": 100 * gain.difference.high,
            "verdict": gain.verdict,
        }
        for each in proved
        for gain in each.gains
    ]
    splits = [f"split {split}" for split in proved[0].proof.splits]
    base = alt.Chart().encode(
        y=alt.Y("system:N", sort=None, title=None, axis=alt.Axis(labelLimit=260))
    )
    is_clear = f"datum.verdict == '{GAIN}' || datum.verdict == '{LOSS}'"
    colour = KIND_COLOURS["student"]
    chart = alt.layer(
        alt.Chart().mark_rule(color=NEUTRAL).encode(x=alt.datum(0)),
        base.mark_rule(color=colour, strokeWidth=3, opacity=0.5).encode(x="low:Q", x2="high:Q"),
        base.mark_point(size=60, color=colour, opacity=1).encode(
            x=alt.X("gain:Q", title="gain over the student alone, in points"),
            fill=alt.condition(is_clear, alt.value(colour), alt.value("white")),
        ),
        data=pa.Table.from_pylist(rows),
    ).properties(width=200, height=alt.Step(20))
    faceted = chart.facet(
        row=alt.Row("corpus:N", sort=None, title=None),
        column=alt.Column("split:N", sort=splits, title=None),
    ).configure(background="white")
    return vl_convert.vegalite_to_svg(faceted.to_dict())
