"""What a job would do, what that needs and what it costs: `--dry-run`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from audio.clips import Corpus
from jobs.command import console
from jobs.costs import CostOptions, Price, needs_of
from jobs.estimates import (
    CorpusOf,
    Estimate,
    device_of,
    estimate_of_trial,
    estimates,
    steps_here,
    works_of,
)
from jobs.fanout import Needs, Task
from jobs.learning import LearningOptions, check_counts, done_of
from jobs.records import Device
from jobs.search_options import SearchOptions
from jobs.tables import duration, table
from jobs.work import Work
from logit_store import LogitStore
from students import StudentRecipe


def show_plan(
    tasks: Sequence[Task], store: LogitStore, corpus_of: CorpusOf, options: LearningOptions
) -> None:
    """What is in the store already, what would run, what that needs and costs.

    Raises:
        UserError: options that make no sense, or prices.toml is malformed.
    """
    check_counts(cpus_per_run=options.cpus_per_run)
    threads, price, states = options.cpus_per_run, options.price(), done_of(tasks, store)
    todo = [task for task, done in zip(tasks, states, strict=True) if not done]
    works = works_of(todo, store, corpus_of)
    general = planned_needs(options, threads, options.gpus_per_run)
    needs = {task.name: needs_of(task, general) for task in todo}
    device = device_of(price, threads)
    # The share of a GPU can be measured only where it is.
    is_here = device.accelerator is not None and device == Device.here(threads)
    found = estimates(
        works,
        needs,
        store,
        device,
        partial(steps_here, threads=threads),
        shares=is_here and options.gpus_per_run is None,
    )
    show_estimates([task.name for task in tasks], found, device, price, spot=options.spot)
    for (_, sample_rate), corpus in _heard(works.values()).items():
        show_decoded(corpus, sample_rate)


def planned_needs(options: CostOptions, cpus: int, gpus: float | None) -> Needs:
    """What one run asks of the machine that was named, before any cluster is there."""
    if gpus is None:
        gpus = 1.0 if device_of(options.price(), cpus).accelerator else 0.0
    return Needs(cpus=cpus, gpus=gpus)


def show_trials(
    n: int,
    base: StudentRecipe,
    corpus: Corpus,
    store: LogitStore,
    options: SearchOptions,
) -> None:
    """What so many trials of a search need and cost, if each is as one of its recipe.

    Raises:
        UserError: prices.toml is malformed, or has no such machine.
    """
    price, cpus = options.price(), options.cpus_per_run
    needs = planned_needs(options, cpus, options.gpus_per_run)
    one = estimate_of_trial(base, corpus, store, options, needs, partial(steps_here, threads=cpus))
    name, device = f"a trial, as {base.name}", device_of(price, cpus)
    alike = {f"{name} {place}": one for place in range(1, n)}
    show_estimates([name], {name: one, **alike}, device, price, spot=options.spot)


def show_estimates(
    names: Sequence[str],
    found: Mapping[str, Estimate],
    device: Device,
    price: Price,
    *,
    spot: bool,
) -> None:
    """A table of what the named runs take, and the totals of all; who has no estimate is done."""
    rows = [
        [name, "to do", *_figures(found[name], price, spot=spot)]
        if name in found
        else [name, "done", *[""] * 7]
        for name in names
    ]
    header = ["run", "state", "CPU", "GPU", "GB", "MB", "time", price.currency, "by"]
    console.print(table(header, rows))
    console.print("GB: memory; MB: left in the store; by: record of an earlier run, or a few steps")
    _show_totals(list(found.values()), device, price, spot=spot)


def _figures(found: Estimate, price: Price, *, spot: bool) -> list[str]:
    return [
        f"{found.needs.cpus:g}",
        f"{found.needs.gpus:g}",
        f"{found.memory_bytes / 1e9:.1f}",
        f"{found.stored_bytes / 1e6:,.1f}",
        duration(found.seconds),
        f"{price.cost(found.needs, found.seconds, spot=spot):,.2f}",
        found.source,
    ]


def _show_totals(found: Sequence[Estimate], device: Device, price: Price, *, spot: bool) -> None:
    """What runs take together, and how that is known."""
    seconds = sum(each.seconds for each in found)
    gpu_h = sum(each.seconds * each.needs.gpus for each in found) / 3600
    cpu_h = sum(each.seconds * each.needs.cpus for each in found) / 3600
    memory_gb = max((each.memory_bytes for each in found), default=0) / 1e9
    checkpoint_mb = max((each.checkpoint_bytes for each in found), default=0) / 1e6
    stored_gb = sum(each.stored_bytes for each in found) / 1e9
    lines = [
        f"{len(found)} runs to do, {_together(seconds, device)}: early stopping makes it less",
        f"{gpu_h:,.1f} GPU-hours, {cpu_h:,.1f} core-hours",
        f"memory: a run takes at most {memory_gb:.1f} GB",
        f"disk: {stored_gb:.3f} GB in the store; checkpoints of up to {checkpoint_mb:,.0f} MB a run",
        _money(found, price, spot=spot),
        _sources(found, device),
    ]
    console.print("\n".join(lines), markup=False)


def _together(seconds: float, device: Device) -> str:
    """How long runs take one after the other, and on all cores of this machine if that is theirs."""
    said = f"together {duration(seconds)} at most"
    if device.accelerator is not None or device != Device.here(device.threads):
        return said
    at_once = max(1, (os.cpu_count() or 1) // device.threads)
    return f"{said}, {at_once} at once on this machine {duration(seconds / at_once)}"


def _money(found: Sequence[Estimate], price: Price, *, spot: bool) -> str:
    if not price.hourly(spot=spot):
        return f"money: {price.said(0)}: {price.name} is a machine of your own; see --machine"
    total = sum(price.cost(each.needs, each.seconds, spot=spot) for each in found)
    age = f"of {price.read}" if price.read else f"nobody compared with {price.source}"
    return (
        f"money: {price.said(total)} {'as spot' if spot else 'on demand'} on {price.name} (list "
        f"price, {age}: cluster/prices.toml)"
    )


def _sources(found: Sequence[Estimate], device: Device) -> str:
    n_recorded = sum(each.source == "record" for each in found)
    said = f"time: {n_recorded} by records of runs on {device}"
    if n_recorded == len(found):
        return said
    measured_on = Device.here(device.threads)
    said += f", {len(found) - n_recorded} by steps on {measured_on}"
    if measured_on.pace == device.pace:
        return said
    return f"{said}.\nWARNING: that is not {device}, so their time and money are not its"


def _heard(works: Iterable[Work]) -> dict[tuple[str, int], Corpus]:
    """The corpora that runs hear, by name and sample rate in Hz."""
    return {
        (work.corpus.name, work.kind.recipe.front_end.sample_rate): work.corpus for work in works
    }


def show_decoded(corpus: Corpus, sample_rate: int) -> None:
    """What a corpus takes on each node when it is decoded."""
    size_gb = len(corpus) * round(corpus.clip_duration_s * sample_rate) * 2 / 1e9
    console.print(
        f"decoded audio: {size_gb:.2f} GB in TUTTI_CACHE of each node for {corpus.name} at "
        f"{sample_rate} Hz",
        markup=False,
    )
