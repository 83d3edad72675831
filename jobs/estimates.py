"""What runs will take and cost: by records of earlier runs, else by a few steps on noise."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Literal, TypeVar

import torch

from audio.clips import Corpus
from jobs import units
from jobs.cluster import memory_of_a_node, running_address
from jobs.command import UserError, console, progress_bar
from jobs.costs import OWN, Price, Spending, needs_of
from jobs.fanout import FanOut, Needs, Task, give_memory_back
from jobs.learning import LearningOptions, done_of
from jobs.records import Device, Paces, device_here
from jobs.search_options import SearchOptions
from jobs.work import CHECKPOINT_WEIGHTS, Kind, Work, work_of, work_on
from logit_store import LogitStore
from students import StudentRecipe
from students.search_space import shortened
from training.dry_step import DryStep, Footprint

CorpusOf = Callable[[Task], Corpus]
Measure = Callable[[Mapping[str, Kind]], Mapping[str, DryStep]]
"""From kinds to their dry steps, both by the name of the kind."""
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What one run takes."""

    seconds: float
    """If it never stops early."""
    needs: Needs
    """What it takes of a machine; of a CPU's, with its memory."""
    memory_bytes: int
    """That a CPU needs for it; a GPU's run needs about as much of the GPU's."""
    stored_bytes: int
    """What it leaves in the store."""
    checkpoint_bytes: int
    """What it has there besides, as long as it runs."""
    source: Literal["record", "step"]


def estimates(
    works: Mapping[str, Work],
    needs: Mapping[str, Needs],
    store: LogitStore,
    device: Device,
    measure: Measure,
    *,
    shares: bool = False,
) -> dict[str, Estimate]:
    """What runs take on a kind of device, by the names of the runs.

    Args:
        works: what each of them does.
        needs: what each of them reserves.
        store: whose records tell of earlier runs.
        device: where they compute.
        measure: takes a few steps of the kinds of which no record tells.
        shares: whether teachers reserve of a GPU what such steps show that they need.
    """
    kinds = {name: work.kind.name for name, work in works.items()}
    recorded = _recorded(works, store, device)
    unknown = {
        kinds[name]: work.kind
        for name, work in works.items()
        if recorded[name] is None or (shares and work.kind.is_teacher)
    }
    steps = measure(unknown)
    sizes = _each({kinds[name]: work.kind for name, work in works.items()}, "sizes", Kind.footprint)
    give_memory_back()
    return {
        name: _estimate(
            work, needs[name], recorded[name], steps.get(kinds[name]), sizes[kinds[name]], shares
        )
        for name, work in works.items()
    }


def _estimate(
    work: Work,
    needs: Needs,
    recorded_s: float | None,
    step: DryStep | None,
    footprint: Footprint,
    shares: bool,
) -> Estimate:
    source: Literal["record", "step"] = "record"
    if recorded_s is None:
        if step is None:
            raise ValueError(f"kind {work.kind.name}: neither recorded nor measured")
        # A step is of one GPU; several that teach one teacher share it.
        recorded_s, source = work.seconds(step) / max(1, needs.gpus), "step"
    if shares and work.kind.is_teacher and needs.gpus == 1 and step is not None:
        needs = replace(needs, gpus=step.gpu_share or needs.gpus)
    if not needs.gpus:
        needs = replace(needs, memory_bytes=footprint.training_bytes)
    return Estimate(
        seconds=recorded_s,
        needs=needs,
        memory_bytes=footprint.training_bytes,
        stored_bytes=work.stored_bytes(footprint.weights_bytes),
        checkpoint_bytes=CHECKPOINT_WEIGHTS * footprint.weights_bytes,
        source=source,
    )


def _recorded(
    works: Mapping[str, Work], store: LogitStore, device: Device
) -> dict[str, float | None]:
    """How long runs take by the records of others that were like them."""
    corpora = {work.corpus.name: work.corpus for work in works.values()}
    paces = {name: Paces.read(store, corpus, device) for name, corpus in corpora.items()}
    return {name: paces[work.corpus.name].seconds(work) for name, work in works.items()}


def steps_here(kinds: Mapping[str, Kind], threads: int) -> dict[str, DryStep]:
    """Dry steps on this machine's GPU, or on so many threads of its CPU."""
    torch.set_num_threads(threads)
    return _each(kinds, "dry steps", partial(Kind.dry_step, device=device_here()))


def steps_on_cluster(kinds: Mapping[str, Kind], needs: Needs) -> dict[str, DryStep]:
    """Dry steps on GPUs of the connected cluster, each on one for itself.

    Raises:
        UserError: a dry step failed.
    """
    probes = FanOut(replace(needs, gpus=1.0))
    probes.add(
        Task(f"dry step of {kind.recipe.name}", units.measure, {"name": name, "kind": kind})
        for name, kind in kinds.items()
    )
    steps: dict[str, DryStep] = {}
    for outcome in probes:
        if outcome.error is not None:
            raise UserError(f"{outcome.task.name}: {outcome.error}")
        name, dry = outcome.result
        steps[name] = dry
        console.print(f"{outcome.task.name}: {dry.gpu_share:.2f} of a GPU", markup=False)
    return steps


def memory_needs(kinds: Mapping[str, Kind], needs: Needs) -> dict[str, Needs]:
    """What each run on the CPU needs, by the name of its task: its host memory is measured here.

    A run that needs more than any node has gets a node's memory for itself. Where no node is there
    yet, and nobody tells what will come, memory is not reserved.
    """
    most = memory_of_a_node()
    named = {name: kind.name for name, kind in kinds.items()}
    sizes = _each({kind.name: kind for kind in kinds.values()}, "sizes", Kind.footprint)
    give_memory_back()
    return {
        name: replace(needs, memory_bytes=min(sizes[kind].training_bytes, most))
        for name, kind in named.items()
    }


def device_of(price: Price, threads: int) -> Device:
    """Where runs compute on a machine of that price: if it is one's own, on what this one has."""
    here = Device.here(threads)
    if price.name == OWN and not price.accelerator:
        return here
    return replace(here, accelerator=price.accelerator or None)


def works_of(tasks: Iterable[Task], store: LogitStore, corpus_of: CorpusOf) -> dict[str, Work]:
    """What each task does that teaches something, by its name."""
    return {task.name: work_of(task, corpus_of(task), store) for task in tasks}


def spending_of(
    options: LearningOptions,
    tasks: Sequence[Task],
    store: LogitStore,
    corpus_of: CorpusOf,
    needs: Needs,
    steps: Mapping[str, DryStep] = MappingProxyType({}),
) -> Spending | None:
    """The budget that the options set, with what the tasks that are to do are expected to take.

    Args:
        options: of the job, whose cluster is connected.
        tasks: that are planned; later ones count as long as those that have ended.
        store: what is in it is done.
        corpus_of: what a task teaches.
        needs: of a task that does not say its own.
        steps: dry steps that were taken already, by the name of their kind.

    Raises:
        UserError: the budget is not above 0, or nobody said what a cluster's machines cost.
    """
    budget = options.checked_budget(on_cluster=running_address() is not None)
    if budget is None:
        return None
    price, states = options.price(), done_of(tasks, store)
    todo = [task for task, done in zip(tasks, states, strict=True) if not done]
    measure: Measure = partial(steps_here, threads=options.cpus_per_run)
    if needs.gpus:
        measure = partial(steps_on_cluster, needs=needs)
    measure = partial(_beyond, known=steps, measure=measure)
    reserved = {task.name: needs_of(task, needs) for task in todo}
    device = device_of(price, options.cpus_per_run)
    found = estimates(works_of(todo, store, corpus_of), reserved, store, device, measure)
    expected_s = {name: each.seconds for name, each in found.items()}
    spending = Spending(budget, price, needs, expected_s, spot=options.spot)
    spending.say_plan(todo)
    return spending


def spending_of_trials(
    base: StudentRecipe, corpus: Corpus, store: LogitStore, options: SearchOptions, needs: Needs
) -> Spending | None:
    """The budget that the options of a search set; its cluster is connected.

    Raises:
        UserError: the budget is not above 0, or nobody said what a cluster's machines cost.
    """
    budget = options.checked_budget(on_cluster=running_address() is not None)
    if budget is None:
        return None
    measure: Measure = partial(steps_here, threads=options.cpus_per_run)
    if needs.gpus:
        measure = partial(steps_on_cluster, needs=needs)
    one = estimate_of_trial(base, corpus, store, options, needs, measure)
    return Spending(budget, options.price(), needs, {}, usual_s=one.seconds, spot=options.spot)


def estimate_of_trial(
    base: StudentRecipe,
    corpus: Corpus,
    store: LogitStore,
    options: SearchOptions,
    needs: Needs,
    measure: Measure,
) -> Estimate:
    """What one trial of a search takes that is never stopped, if it is as its recipe."""
    device = device_of(options.price(), options.cpus_per_run)
    work = work_on(corpus, shortened(base, options.epochs), options.split, n_views=0)
    (one,) = estimates({"trial": work}, {"trial": needs}, store, device, measure).values()
    return one


def _beyond(
    kinds: Mapping[str, Kind], known: Mapping[str, DryStep], measure: Measure
) -> dict[str, DryStep]:
    """Measure only what is not known."""
    return {**known, **measure({name: kind for name, kind in kinds.items() if name not in known})}


def _each(
    kinds: Mapping[str, Kind], what: str, measure: Callable[[Kind], Found]
) -> dict[str, Found]:
    """Measure each kind, with a bar."""
    with progress_bar() as bar:
        named = bar.track(list(kinds.items()), description=what)
        return {name: measure(kind) for name, kind in named}
