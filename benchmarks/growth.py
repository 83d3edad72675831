"""Measures how time grows with members, with clips and with systems, up to the largest sizes at hand.

M members, N clips, K classes.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import altair as alt
import numpy as np
import pyarrow as pa
import torch
import vl_convert

from audio.clips import Corpus
from benchmarks.clips import make_judged_clips
from benchmarks.large_store import make_large_store
from benchmarks.results import FILE, format_table, publish
from benchmarks.scale import use
from disk import write_whole
from ensemble import select
from logit_store import LogitKey, LogitStore

PICTURE = FILE.with_name("growth.svg")
N_CHOSEN = 5
"""Members of each selection: as many steps at each size."""
COUNTS_FROM = 1.5
"""A size counts for the exponent if it takes this many times as long as the smallest store."""
COMMANDS = {
    "ls": "python -m logit_store ls --store {store}",
    "sql": "python -m logit_store sql --store {store} "
    '"select member, avg(log_loss) from predictions group by member"',
    "report": "python jobs/report.py --corpus tau --most 100000 --store {store} --to {folder}/report.html",
}
OPERATIONS = ("selection", "read", *COMMANDS)


@dataclass(frozen=True, slots=True)
class Store:
    """The size of a synthetic store."""

    n_members: int
    n_clips: int
    n_seeds: int = 2
    """Members of each system."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Stores of which one size grows."""

    name: str
    start: Store
    """A store so small that all that it takes is start-up."""
    stores: Mapping[int, Store]
    """By the size that grows."""
    most: Mapping[str, int]
    """The largest size at which an operation is run, where that is not the largest of all."""
    operations: Sequence[str] = OPERATIONS


@dataclass(frozen=True, slots=True)
class Growth:
    """What an operation took at the sizes of an axis."""

    axis: str
    operation: str
    start_s: float
    seconds: Mapping[int, float]
    """Of processor time, by size; without the sizes at which it was not run."""
    peak_mb: float
    """The largest resident memory of the command; 0 for what is no command."""

    def fit_exponent(self) -> float | None:
        """Fit the exponent of the time beyond start-up; None if fewer than two sizes show it.

        It is the slope of the logarithm of the time over that of the size, by least squares.
        """
        shown = {n: s for n, s in self.seconds.items() if s >= COUNTS_FROM * self.start_s}
        if len(shown) < 2:
            return None
        beyond = [seconds - self.start_s for seconds in shown.values()]
        return float(np.polyfit(np.log(list(shown)), np.log(beyond), 1)[0])


AXES = (
    Axis(
        name="members",
        start=Store(2, 1000),
        stores={n: Store(n, 1000) for n in (22, 110, 500, 2000, 10_000)},
        most={},
    ),
    Axis(
        name="clips",
        start=Store(4, 1000),
        stores={n: Store(4, n) for n in (10**4, 10**5, 10**6, 10**7)},
        most={"report": 10**6},
    ),
    Axis(
        name="systems",
        start=Store(2, 37_100, 1),
        stores={n: Store(n, 37_100, 1) for n in (250, 500, 1000, 2000)},
        most={},
        operations=("report",),
    ),
)
SMALL_AXES = (
    Axis("members", Store(2, 200), {n: Store(n, 200) for n in (8, 32)}, {}),
    Axis("clips", Store(4, 200), {n: Store(4, n) for n in (1000, 4000)}, {"report": 1000}),
)


def main() -> None:
    """Measure and publish; with --small, only print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="tiny sizes, and write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    axes = SMALL_AXES if options.small else AXES
    growths = [each for axis in axes for each in _measure_axis(axis, options.rounds)]
    body = _describe(axes, growths, options.rounds)
    if options.small:
        print(body)
        return
    write_whole(PICTURE, draw_growths(growths).encode())
    publish("growth.py", "Growth (cpu)", torch.device("cpu"), body)


def _measure_axis(axis: Axis, rounds: int) -> list[Growth]:
    start = _measure_store(axis.start, axis.operations, rounds)
    found: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in axis.operations}
    for size, store in axis.stores.items():
        wanted = [name for name in axis.operations if size <= axis.most.get(name, size)]
        for name, took in _measure_store(store, wanted, rounds).items():
            found[name][size] = took
    return [
        Growth(
            axis=axis.name,
            operation=name,
            start_s=start[name][0],
            seconds={size: seconds for size, (seconds, _) in by_size.items()},
            peak_mb=max(peak_mb for _, peak_mb in by_size.values()),
        )
        for name, by_size in found.items()
    ]


def _measure_store(
    size: Store, operations: Sequence[str], rounds: int
) -> dict[str, tuple[float, float]]:
    """Return the median seconds of each operation on a new store, and its peak of memory in MB."""
    corpus = Corpus("tau", Path(), make_judged_clips(size.n_clips))
    with tempfile.TemporaryDirectory() as folder:
        store = make_large_store(
            Path(folder) / "store",
            n_members=size.n_members,
            n_units=1,
            corpus=corpus,
            n_seeds=size.n_seeds,
        )
        # The catalogue is made by the first listing.
        keys = [
            LogitKey(row["corpus"], row["split"], row["member"])
            for row in store.members().select(["corpus", "split", "member"]).to_pylist()
        ]
        sides = _make_sides(store, keys, corpus.labels(), Path(folder))
        took = {name: [sides[name]() for _ in range(rounds)] for name in operations}
    return {
        name: (
            statistics.median(seconds for seconds, _ in each),
            max(peak_mb for _, peak_mb in each),
        )
        for name, each in took.items()
    }


def _make_sides(
    store: LogitStore, keys: Sequence[LogitKey], labels_N: np.ndarray, folder: Path
) -> dict[str, Callable[[], tuple[float, float]]]:
    def read() -> tuple[float, float]:
        return _time(lambda: store.read(keys, dtype=np.float16))

    def choose() -> tuple[float, float]:
        logits_MNK = store.read(keys, dtype=np.float16)
        # The first selection of a process compiles or loads its kernels.
        select(logits_MNK[:, : 2 * N_CHOSEN], labels_N[: 2 * N_CHOSEN], max_members=2)
        return _time(lambda: select(logits_MNK, labels_N, max_members=N_CHOSEN))

    lines = {
        name: command.format(store=store.address, folder=folder)
        for name, command in COMMANDS.items()
    }
    return {
        "selection": choose,
        "read": read,
        **{name: partial(_use, line) for name, line in lines.items()},
    }


def _time(action: Callable[[], object]) -> tuple[float, float]:
    began = time.process_time()
    action()
    return time.process_time() - began, 0.0


def _use(line: str) -> tuple[float, float]:
    took = use(line)
    return took.seconds, took.peak_mb


def _describe(axes: Sequence[Axis], growths: Sequence[Growth], rounds: int) -> str:
    tables = [
        _tabulate(axis, [each for each in growths if each.axis == axis.name]) for axis in axes
    ]
    picture = f"![Seconds by size, on logarithmic axes]({PICTURE.name})"
    notes = (
        "Seconds of processor time of commands in a process of their own, and of a read and a selection "
        f"in one that runs already; medians of {rounds} round(s), one store after the other, "
        "files in the page cache, 10 classes. Start: a store of next to nothing. Exponent: the slope of the "
        "logarithm of the time beyond the start over that of the size, by least squares over the sizes that "
        f"take at least {COUNTS_FROM} times the start (none: fewer than two do); 1 is linear. Members: of "
        "1,000 clips, two seeds a system. Clips: four members; four fifths are test clips, which report "
        "judges in one split. Systems: of one seed, 29,680 test clips of 37,100; all of them are shown. "
        f"Selection: of {N_CHOSEN} members by log loss, on all clips, from float16 in memory. Read: all members, all "
        "clips, with checksums. ls: all members. sql: mean log loss of each member over all clips. "
        "Not run: more than minutes or the memory of 24 GB allow."
    )
    return "\n\n".join([*tables, picture, notes])


def _tabulate(axis: Axis, growths: Sequence[Growth]) -> str:
    header = [axis.name, "start", *(f"{size:,}" for size in axis.stores), "exponent", "peak, MB"]
    return format_table(header, [_make_row(axis, each) for each in growths])


def _make_row(axis: Axis, growth: Growth) -> list[str]:
    exponent = growth.fit_exponent()
    return [
        growth.operation,
        _format_s(growth.start_s),
        *(
            _format_s(growth.seconds[size]) if size in growth.seconds else "not run"
            for size in axis.stores
        ),
        "none" if exponent is None else f"{exponent:.2f}",
        f"{growth.peak_mb:,.0f}" if growth.peak_mb else "",
    ]


def _format_s(seconds: float) -> str:
    return f"{seconds:.4f}" if seconds < 0.1 else f"{seconds:.2f}"


def draw_growths(growths: Sequence[Growth]) -> str:
    """Draw seconds over size, a panel for each axis, as SVG."""
    rows = [
        {"axis": each.axis, "operation": each.operation, "size": size, "seconds": seconds}
        for each in growths
        for size, seconds in each.seconds.items()
    ]
    line = (
        alt.Chart(pa.Table.from_pylist(rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("size:Q", title=None, scale=alt.Scale(type="log"), axis=alt.Axis(format="~s")),
            y=alt.Y("seconds:Q", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g")),
            color=alt.Color("operation:N", title=None, sort=list(OPERATIONS)),
        )
        .properties(width=240, height=240)
    )
    panels = line.facet(column=alt.Column("axis:N", title=None, sort=[each.name for each in AXES]))
    return vl_convert.vegalite_to_svg(
        panels.resolve_scale(x="independent").configure(background="white").to_dict()
    )


if __name__ == "__main__":
    main()
