"""What commands suggest to do next, by the clips and the students that there are."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from audio.clips import LABELLED_FOLDS, POOL, SPLITS, UNLABELLED, Corpus
from audio.corpora.cuts import LONGEST_S
from audio.findings import find_complete_splits
from audio.pools import OWN_UNLABELLED
from jobs.plan.options import CorpusOptions
from logit_store import strip_fingerprint

FEW_CLIPS = 1_000
"""With fewer labelled clips to learn from, a probe knows more than what can be taught from them, and the
published students' batches of 256 leave too few steps."""
PROBE = "probe:aisfx"
"""Its weights are installed with the project."""
SMALL_STUDENT = "tiny_isotropic"
"""Batches of 16, and three times the steps of `demo_isotropic`, which gained nothing from a pool."""


def suggest_teachers(corpus: Corpus) -> list[list[str]]:
    """Return the options of `jobs/teachers.py` that suit a corpus, the best first.

    A corpus of few clips gets a probe on its largest split first, and the plan of all published teachers
    after it: its smaller splits leave too little to learn from.
    """
    splits = find_complete_splits(corpus)
    published = []
    if len(splits) < len(SPLITS):
        published += ["--splits", *map(str, splits)]
    if corpus.clip_duration_s > LONGEST_S:
        published += ["--length", f"crop:{LONGEST_S:g}"]
    published.append("--dry-run")
    largest = max(splits)
    if not has_few_clips(corpus.table, largest) or not _has_all_scenes(corpus, largest):
        return [published]
    return [["--recipes", PROBE, "--splits", str(largest)], published]


def suggest_students(clips: pa.Table, splits: Sequence[int]) -> list[str]:
    """Return the options of `jobs/students.py` that suit the clips of a corpus and these splits."""
    recipe = ["--recipes", SMALL_STUDENT] if has_few_clips(clips, max(splits)) else []
    pool = ["--pool", OWN_UNLABELLED] if _has_unlabelled(clips, splits) else []
    return [*recipe, *pool]


def has_few_clips(clips: pa.Table, split: int) -> bool:
    """Return whether a split has fewer labelled clips than networks need to learn from nothing."""
    return pc.sum(pc.equal(clips[f"fold_{split}"], "fit")).as_py() < FEW_CLIPS


def _has_all_scenes(corpus: Corpus, split: int) -> bool:
    """Return whether a probe can be fitted: each scene has a clip in `fit`."""
    fit = corpus.column(f"fold_{split}") == LABELLED_FOLDS[0]
    return set(corpus.column("scene")[fit]) >= set(corpus.scenes)


def _has_unlabelled(clips: pa.Table, splits: Sequence[int]) -> bool:
    """Return whether each of the splits has clips without a label in its pool."""
    unlabelled = pc.equal(clips["scene"], UNLABELLED)
    return all(
        pc.any(pc.and_(unlabelled, pc.equal(clips[f"fold_{split}"], POOL))).as_py()
        for split in splits
    )


def make_export_command(options: CorpusOptions, member: str, *, in_c: bool = False) -> list[str]:
    """Return the command that exports a student for `python -m students.classify`, or in C for a device."""
    name = strip_fingerprint(member)
    form, to = ("c", f"{name}_c") if in_c else ("onnx-int8", f"{name}.onnx")
    how = ["--form", form, "--with-front-end", "--to", to]
    return ["python", "-m", "students.export", member, *options.list_data_options(), *how]
