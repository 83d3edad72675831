"""Scores of systems on the test clips, for the terminal."""

from collections.abc import Sequence

from audio.clips import Corpus
from logit_store import LogitKey, LogitStore
from metrics import Interval
from report.summary import (
    TOO_FEW_SEEDS,
    JudgedClips,
    Summary,
    System,
    compare_systems,
    describe_intervals,
    has_verdict,
    name_score,
    summarise,
)
from terminal.console import console, progress_bar
from terminal.tables import build_table, format_count

SCORES = ("accuracy", "+-", "seen", "unseen", "log loss")
"""What `format_scores` returns."""


def read_system(store: LogitStore, name: str, keys: Sequence[LogitKey]) -> System:
    """Read a system from the store, with one key for each seed."""
    return System(name, keys[0].split, list(store.read(keys)))


def show_systems(corpus: Corpus, systems: Sequence[System]) -> None:
    """Print a table of all systems."""
    what, scores = "accuracy is the macro average", SCORES
    if corpus.has_several_labels:
        what, scores = f"{name_score(corpus)} is", (name_score(corpus), *SCORES[1:])
    console.print(
        f"\non the test clips; {what} in %, with its 95 % interval {describe_intervals(corpus)}"
    )
    header = ["system", "split", "seeds", *scores]
    with progress_bar() as bar:
        rows = [_make_row(corpus, each) for each in bar.track(systems, description="intervals")]
    console.print(build_table(header, rows))
    console.print("+-: standard deviation over the seeds")
    console.print(
        "seen, unseen: on recording devices that are, are not in the split's training clips"
    )


def show_gains(
    corpus: Corpus, what: str, baseline: System, others: Sequence[System], *, unseen: bool
) -> None:
    """Print by how much each of the others is better than the baseline, or that seeds are too few.

    If `unseen` is true and the test fold has clips of unseen recording devices, also print it for
    these.
    """
    for other in others:
        figures = _format_gain(compare_systems(corpus, baseline, other).difference)
        if unseen and summarise(corpus, other).unseen_accuracy is not None:
            on_unseen = compare_systems(corpus, baseline, other, unseen_only=True)
            figures += f"; unseen devices {_format_gain(on_unseen.difference)}"
        console.print(
            f"{what.format(other.name)}, split {other.split}: {figures} "
            f"({_describe_draws(corpus, other)})",
            markup=False,
        )


def format_scores(figures: Summary) -> list[str]:
    """Format a system's scores in the order of `SCORES`: accuracies in %, log loss in nats."""
    interval, deviation = figures.accuracy, figures.seed_deviation
    seen, unseen = figures.seen_accuracy, figures.unseen_accuracy
    return [
        f"{100 * interval.value:.1f} ({100 * interval.low:.0f}-{100 * interval.high:.0f})",
        "-" if deviation is None else f"{100 * deviation:.1f}",
        "-" if seen is None else f"{100 * seen:.1f}",
        "-" if unseen is None else f"{100 * unseen:.1f}",
        f"{figures.log_loss:.3f}",
    ]


def _describe_draws(corpus: Corpus, system: System) -> str:
    n_seeds = len(system.logits_ANK)
    drawn = JudgedClips.of(corpus, system.split).name_drawn(n_seeds)
    verdict = "" if has_verdict(n_seeds) else f": {TOO_FEW_SEEDS}"
    return f"{format_count(n_seeds, 'seed')}, paired over {drawn}{verdict}"


def _format_gain(gain: Interval) -> str:
    value, low, high = (100 * each for each in (gain.value, gain.low, gain.high))
    return f"{value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"


def _make_row(corpus: Corpus, system: System) -> list[str]:
    scores = format_scores(summarise(corpus, system))
    return [system.name, str(system.split), str(len(system.logits_ANK)), *scores]
