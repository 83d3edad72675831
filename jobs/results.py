"""What systems are worth on the test clips, for the terminal."""

from collections.abc import Sequence

from audio.clips import Corpus
from jobs.command import console, progress_bar
from jobs.tables import table
from logit_store import LogitKey, LogitStore
from metrics import Interval
from report import System, compare, summary


def stored(store: LogitStore, name: str, keys: Sequence[LogitKey]) -> System:
    """A system that is in the store, once per seed."""
    return System(name, keys[0].split, list(store.read(keys)))


def show_systems(corpus: Corpus, systems: Sequence[System]) -> None:
    """The table of all systems."""
    console.print("\non the test clips; accuracy is the macro average in %, with its 95 % interval")
    header = ["system", "split", "seeds", "accuracy", "+-", "seen", "unseen", "log loss"]
    with progress_bar() as bar:
        rows = [_row(corpus, each) for each in bar.track(systems, description="intervals")]
    console.print(table(header, rows))
    console.print("+-: standard deviation over the seeds")
    console.print("seen, unseen: on recording devices that the split's training clips have, lack")


def show_gains(
    corpus: Corpus, what: str, baseline: System, others: Sequence[System], *, unseen: bool
) -> None:
    """What each of the others has over the baseline; `unseen` devices as well, if test has any."""
    for other in others:
        figures = _points(compare(corpus, baseline, other).difference)
        if unseen and summary(corpus, other).unseen_accuracy is not None:
            on_unseen = compare(corpus, baseline, other, unseen_only=True)
            figures += f"; unseen devices {_points(on_unseen.difference)}"
        console.print(
            f"{what.format(other.name)}, split {other.split}: {figures} "
            f"({len(other.logits_ANK)} seeds, paired over recordings)",
            markup=False,
        )


def _points(gain: Interval) -> str:
    value, low, high = (100 * each for each in (gain.value, gain.low, gain.high))
    return f"{value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"


def _row(corpus: Corpus, system: System) -> list[str]:
    figures = summary(corpus, system)
    interval, deviation = figures.accuracy, figures.seed_deviation
    seen, unseen = figures.seen_accuracy, figures.unseen_accuracy
    return [
        system.name,
        str(system.split),
        str(len(system.logits_ANK)),
        f"{100 * interval.value:.1f} ({100 * interval.low:.0f}-{100 * interval.high:.0f})",
        "-" if deviation is None else f"{100 * deviation:.1f}",
        "-" if seen is None else f"{100 * seen:.1f}",
        "-" if unseen is None else f"{100 * unseen:.1f}",
        f"{figures.log_loss:.3f}",
    ]
