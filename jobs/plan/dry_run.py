"""Shows what a job would do, need and cost: `--dry-run`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from audio.clips import Corpus
from jobs.plan.estimates import (
    Estimate,
    FindCorpus,
    estimate_runs,
    find_machine,
    find_workloads,
    measure_steps_here,
)
from jobs.plan.options import CostOptions, LearningOptions
from jobs.plan.probe_estimates import estimate_probes
from jobs.plan.probes import ProbePlan
from jobs.plan.ram import show_ram
from jobs.plan.records import Machine
from jobs.plan.workload import Workload
from jobs.schedule.carry_out import find_stored
from jobs.schedule.task import Needs, Task
from logit_store import LogitStore
from students import StudentRecipe
from terminal.console import console
from terminal.tables import build_table, format_count, format_duration

if TYPE_CHECKING:
    from jobs.schedule.prices import Price


def show_plan(
    tasks: Sequence[Task],
    store: LogitStore,
    find_corpus: FindCorpus,
    options: LearningOptions,
    probes: ProbePlan | None = None,
) -> None:
    """Print which tasks are done, which would run, and what these need and cost.

    Args:
        tasks: what trains networks.
        store: has what is done.
        find_corpus: returns the corpus of a task.
        options: of the command.
        probes: what it embeds and fits besides.

    Raises:
        UserError: an option makes no sense, a run does not fit on this machine, or prices.toml is
            malformed.
    """
    threads, price, states = options.cpus_per_run, options.find_price(), find_stored(tasks, store)
    todo = [task for task, done in zip(tasks, states, strict=True) if not done]
    if (todo or probes is not None) and price.is_own:
        options.check_fit_here()
    workloads = find_workloads(todo, store, find_corpus)
    general = find_planned_needs(options, threads, options.gpus_per_run)
    needs = {task.name: task.find_cost_needs(general) for task in todo}
    device = find_machine(price, threads)
    # The share of a GPU can be measured only on this machine.
    is_here = device.accelerator is not None and device == Machine.here(threads)
    estimates = estimate_runs(
        workloads,
        needs,
        store,
        device,
        partial(measure_steps_here, threads=threads),
        shares=is_here and options.gpus_per_run is None,
    )
    decoded, names = _find_corpora(workloads.values()), [task.name for task in tasks]
    if probes is not None:
        named, of_probes = estimate_probes(probes, store, device, general)
        names, estimates = [*names, *named], estimates | of_probes
        decoded |= {
            (each.corpus.name, each.backbone.sample_rate): each.corpus
            for each in probes.find_missing(store)[0]
        }
    show_estimates(names, estimates, device, price, spot=options.spot)
    show_ram(
        (each.pace.recipe, each.corpus)
        for each in workloads.values()
        if isinstance(each.pace.recipe, StudentRecipe)
    )
    for (_, sample_rate), corpus in decoded.items():
        show_decoded_size(corpus, sample_rate)


def find_planned_needs(options: CostOptions, cpus: int, gpus: float | None) -> Needs:
    """Return what one run needs of the machine of the options, without asking a cluster."""
    if gpus is None:
        gpus = 1.0 if find_machine(options.find_price(), cpus).accelerator else 0.0
    return Needs(cpus=cpus, gpus=gpus)


def show_estimates(
    names: Sequence[str],
    estimates: Mapping[str, Estimate],
    device: Machine,
    price: "Price",
    *,
    spot: bool,
    here: Machine | None = None,
) -> None:
    """Print a table of what each run takes, and the totals.

    Args:
        names: of all runs.
        estimates: by name; runs without one are done.
        device: what runs compute on.
        price: of the machine.
        spot: whether spot prices are used.
        here: what this machine's runs compute on, if it is known without looking for a GPU.
    """
    rows = [
        [name, "to do", *_describe_estimate(estimates[name], price, spot=spot)]
        if name in estimates
        else [name, "done", *[""] * 7]
        for name in names
    ]
    header = ["run", "state", "CPU", "GPU", "GB", "MB", "time", price.currency, "by"]
    console.print(build_table(header, rows))
    console.print("GB: memory; MB: left in the store; by: record of an earlier run, or a few steps")
    here = here or Machine.here(device.threads)
    _show_totals(list(estimates.values()), device, price, spot=spot, here=here)


def _describe_estimate(estimate: Estimate, price: "Price", *, spot: bool) -> list[str]:
    return [
        f"{estimate.needs.cpus:g}",
        f"{estimate.needs.gpus:g}",
        f"{estimate.memory_bytes / 1e9:.1f}",
        f"{estimate.stored_bytes / 1e6:,.1f}",
        format_duration(estimate.seconds),
        f"{price.find_cost(estimate.needs, estimate.seconds, spot=spot):,.2f}",
        estimate.source,
    ]


def _show_totals(
    estimates: Sequence[Estimate], device: Machine, price: "Price", *, spot: bool, here: Machine
) -> None:
    """Print what the runs take together, and how that is known."""
    seconds = sum(each.seconds for each in estimates)
    gpu_h = sum(each.seconds * each.needs.gpus for each in estimates) / 3600
    cpu_h = sum(each.seconds * each.needs.cpus for each in estimates) / 3600
    memory_gb = max((each.memory_bytes for each in estimates), default=0) / 1e9
    checkpoint_mb = max((each.checkpoint_bytes for each in estimates), default=0) / 1e6
    stored_gb = sum(each.stored_bytes for each in estimates) / 1e9
    lines = [
        f"{format_count(len(estimates), 'run')} to do, {_describe_duration(seconds, device, here)}: early stopping makes it less",
        f"{gpu_h:,.1f} GPU-hours, {cpu_h:,.1f} core-hours",
        f"memory: a run takes at most {memory_gb:.1f} GB",
        f"disk: {stored_gb:.3f} GB in the store; checkpoints of up to {checkpoint_mb:,.0f} MB a run",
        _describe_cost(estimates, price, spot=spot),
        _describe_sources(estimates, device, here),
    ]
    console.print("\n".join(lines), markup=False)


def _describe_duration(seconds: float, device: Machine, here: Machine) -> str:
    """Describe how long runs take one after the other, and on all cores if they run on this CPU."""
    text = f"together {format_duration(seconds)} at most"
    if device.accelerator is not None or device != here:
        return text
    at_once = max(1, (os.cpu_count() or 1) // device.threads)
    return f"{text}, {at_once} at once on this machine {format_duration(seconds / at_once)}"


def _describe_cost(estimates: Sequence[Estimate], price: "Price", *, spot: bool) -> str:
    if not price.find_hourly_price(spot=spot):
        return (
            f"money: {price.format_amount(0)}: {price.name} is a machine of your own; see --machine"
        )
    total = sum(price.find_cost(each.needs, each.seconds, spot=spot) for each in estimates)
    age = f"of {price.read}" if price.read else f"nobody compared with {price.source}"
    return (
        f"money: {price.format_amount(total)} {'as spot' if spot else 'on demand'} on {price.name} (list "
        f"price, {age}: cluster/prices.toml)"
    )


def _describe_sources(estimates: Sequence[Estimate], device: Machine, here: Machine) -> str:
    n_recorded = sum(each.source == "record" for each in estimates)
    text = f"time: {n_recorded} by records of runs on {device}"
    if n_recorded == len(estimates):
        return text
    text += f", {len(estimates) - n_recorded} by steps on {here}"
    if here.pace == device.pace:
        return text
    return f"{text}.\nWARNING: that is not {device}, so their time and money are not its"


def _find_corpora(workloads: Iterable[Workload]) -> dict[tuple[str, int], Corpus]:
    """Return the corpora of runs, by name and sample rate in Hz."""
    return {
        (work.corpus.name, work.pace.recipe.front_end.sample_rate): work.corpus
        for work in workloads
    }


def show_decoded_size(corpus: Corpus, sample_rate: int) -> None:
    """Print how large a corpus is on each node when it is decoded."""
    size_gb = len(corpus) * round(corpus.clip_duration_s * sample_rate) * 2 / 1e9
    console.print(
        f"decoded audio: {size_gb:.2f} GB in TUTTI_CACHE of each node for {corpus.name} at "
        f"{sample_rate} Hz",
        markup=False,
    )
