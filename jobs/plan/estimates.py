"""Estimates what runs take and cost, by records of earlier runs or else by a few steps on noise."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from audio.clips import Corpus
from jobs.plan.options import LearningOptions
from jobs.plan.records import Machine, RecordedPaces
from jobs.plan.workload import CHECKPOINT_WEIGHTS, Pace, Workload, find_workload
from jobs.schedule.carry_out import find_stored
from jobs.schedule.fanout import FanOut
from jobs.schedule.spending import Spending
from jobs.schedule.task import Needs, Task
from jobs.schedule.workers import Workers, give_memory_back
from jobs.worker.device import find_device, find_reserved_device
from jobs.worker.train import TrainingWork
from logit_store import LogitStore
from terminal.console import UserError, console, progress_bar
from training.needs import DryStep, Footprint

if TYPE_CHECKING:
    from jobs.schedule.prices import Price

FindCorpus = Callable[[Task[TrainingWork]], Corpus]
Measure = Callable[[Mapping[str, Pace]], Mapping[str, DryStep]]
"""Measures dry steps of paces; both are by the name of the pace."""
ExpectMore = Callable[[Machine], Sequence[tuple[Task[Any], float]]]
"""Returns tasks that take other time than that of a training, with their expected seconds on a machine."""
Measured = TypeVar("Measured")


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What one run takes."""

    seconds: float
    """Duration if it never stops early."""
    needs: Needs
    """What it needs of a machine; on a CPU with its memory."""
    memory_bytes: int
    """Memory on a CPU; a run on a GPU needs about as much of the GPU's memory."""
    stored_bytes: int
    """Bytes that it leaves in the store."""
    checkpoint_bytes: int
    """Bytes in the store besides, as long as it runs."""
    source: Literal["record", "step"]


def estimate_runs(
    workloads: Mapping[str, Workload],
    needs: Mapping[str, Needs],
    store: LogitStore,
    device: Machine,
    measure: Measure,
    *,
    shares: bool = False,
) -> dict[str, Estimate]:
    """Estimate what runs take on a kind of machine; all mappings are by the names of the runs.

    Args:
        workloads: the workload of each run.
        needs: what each run reserves.
        store: has the records of earlier runs.
        device: the machine that they compute on.
        measure: takes a few steps of the paces without a record.
        shares: whether teachers reserve the share of a GPU that such steps need.
    """
    pace_names = {name: workload.pace.name for name, workload in workloads.items()}
    recorded = _find_recorded_times(workloads, store, device)
    unknown = {
        pace_names[name]: workload.pace
        for name, workload in workloads.items()
        if recorded[name] is None or (shares and workload.pace.is_teacher)
    }
    steps = measure(unknown) if unknown else {}
    sizes = _measure_each(
        {pace_names[name]: workload.pace for name, workload in workloads.items()},
        "sizes",
        Pace.measure_footprint,
    )
    give_memory_back()
    return {
        name: _estimate_run(
            workload,
            needs[name],
            recorded[name],
            steps.get(pace_names[name]),
            sizes[pace_names[name]],
            shares,
        )
        for name, workload in workloads.items()
    }


def _estimate_run(
    workload: Workload,
    needs: Needs,
    recorded_s: float | None,
    step: DryStep | None,
    footprint: Footprint,
    shares: bool,
) -> Estimate:
    source: Literal["record", "step"] = "record"
    if recorded_s is None:
        if step is None:
            raise ValueError(f"pace {workload.pace.name}: neither recorded nor measured")
        # A step was measured on one GPU; several GPUs that train one teacher share the workload.
        recorded_s, source = workload.estimate_seconds(step) / max(1, needs.gpus), "step"
    if shares and workload.pace.is_teacher and needs.gpus == 1 and step is not None:
        needs = replace(needs, gpus=step.gpu_share or needs.gpus)
    if not needs.gpus:
        needs = replace(needs, memory_bytes=footprint.training_bytes)
    return Estimate(
        seconds=recorded_s,
        needs=needs,
        memory_bytes=footprint.training_bytes,
        stored_bytes=workload.count_stored_bytes(footprint.weights_bytes),
        checkpoint_bytes=CHECKPOINT_WEIGHTS * footprint.weights_bytes,
        source=source,
    )


def _find_recorded_times(
    workloads: Mapping[str, Workload], store: LogitStore, device: Machine
) -> dict[str, float | None]:
    """Return how long runs take by the records of similar runs; None if there is none."""
    corpora = {workload.corpus.name: workload.corpus for workload in workloads.values()}
    paces = {name: RecordedPaces.read(store, corpus, device) for name, corpus in corpora.items()}
    return {
        name: paces[workload.corpus.name].estimate_seconds(workload)
        for name, workload in workloads.items()
    }


def measure_steps_here(paces: Mapping[str, Pace], threads: int) -> dict[str, DryStep]:
    """Take dry steps on this machine's GPU, or on this number of threads of its CPU."""
    # Torch takes seconds to import, and most plans find all that they need in records.
    import torch

    torch.set_num_threads(threads)
    return _measure_each(paces, "dry steps", partial(Pace.measure_step, device=find_device()))


@dataclass(frozen=True, slots=True)
class MeasureStep:
    """Takes a few steps of a pace on the GPU that was reserved for it."""

    pace: Pace

    def run(self) -> DryStep:
        """Return how long a step takes, and what it needs of the GPU."""
        return self.pace.measure_step(find_reserved_device())


def measure_steps_on_workers(
    paces: Mapping[str, Pace], workers: Workers[Any], needs: Needs
) -> dict[str, DryStep]:
    """Take dry steps on GPUs of the connected cluster, each on a GPU of its own.

    Raises:
        UserError: a dry step failed.
    """
    fan_out: FanOut[MeasureStep] = FanOut(workers, replace(needs, gpus=1.0))
    fan_out.add(
        Task(f"dry step of {pace.recipe.name}", MeasureStep(pace)) for pace in paces.values()
    )
    names = {pace: name for name, pace in paces.items()}
    steps: dict[str, DryStep] = {}
    for outcome in fan_out:
        if outcome.error is not None:
            raise UserError(f"{outcome.task.name}: {outcome.error}")
        steps[names[outcome.task.work.pace]] = outcome.result
        console.print(f"{outcome.task.name}: {outcome.result.gpu_share:.2f} of a GPU", markup=False)
    return steps


def measure_memory_needs(
    paces: Mapping[str, Pace], workers: Workers[Any], needs: Needs
) -> dict[str, Needs]:
    """Measure what each run on the CPU needs of the host's memory, by the name of its task.

    A run that needs more than any node has gets a node's memory for itself. Where the memory of
    the nodes is not known, none is reserved.
    """
    most = workers.find_largest_memory_bytes()
    by_name = {pace.name: pace for pace in paces.values()}
    sizes = _measure_each(by_name, "sizes", Pace.measure_footprint)
    give_memory_back()
    return {
        name: replace(needs, memory_bytes=min(sizes[pace.name].training_bytes, most))
        for name, pace in paces.items()
    }


def find_machine(price: "Price", threads: int) -> Machine:
    """Return what runs compute on, on a machine of this price; one's own is like this one."""
    here = Machine.here(threads)
    if price.is_own and not price.accelerator:
        return here
    return replace(here, accelerator=price.accelerator or None)


def find_workloads(
    tasks: Iterable[Task[TrainingWork]], store: LogitStore, find_corpus: FindCorpus
) -> dict[str, Workload]:
    """Return the workload of each task that trains something, by its name."""
    return {task.name: find_workload(task.work, find_corpus(task), store) for task in tasks}


def plan_spending(
    options: LearningOptions,
    tasks: Sequence[Task[TrainingWork]],
    store: LogitStore,
    find_corpus: FindCorpus,
    workers: Workers[Any],
    needs: Needs,
    steps: Mapping[str, DryStep] = MappingProxyType({}),
    expect_more: ExpectMore = lambda machine: (),
) -> Spending | None:
    """Return the budget that the options set, with what the tasks to do are expected to take.

    Args:
        options: options of the job.
        tasks: the planned tasks; those that are added later count with the mean of those that ended.
        store: a task whose logits are in it is done.
        find_corpus: returns the corpus of a task.
        workers: where the tasks will run.
        needs: needs of a task that does not name its own.
        steps: dry steps that were taken already, by the name of their pace.
        expect_more: asked for tasks that train no network, if there is a budget.

    Raises:
        UserError: the budget is not above 0, or the price of a cluster's machines is not known.
    """
    budget = options.find_budget(on_cluster=workers.is_shared)
    if budget is None:
        return None
    price, states = options.find_price(), find_stored(tasks, store)
    to_do = [task for task, is_stored in zip(tasks, states, strict=True) if not is_stored]
    measure = choose_measure(workers, needs, threads=options.cpus_per_run)
    measure = partial(_measure_unknown, known=steps, measure=measure)
    reserved = {task.name: task.find_cost_needs(needs) for task in to_do}
    machine = find_machine(price, options.cpus_per_run)
    estimates = estimate_runs(
        find_workloads(to_do, store, find_corpus), reserved, store, machine, measure
    )
    more = expect_more(machine)
    expected_s = {name: each.seconds for name, each in estimates.items()}
    expected_s |= {task.name: seconds for task, seconds in more}
    spending = Spending(budget, price, needs, expected_s, spot=options.spot)
    spending.say_plan([*to_do, *(task for task, _ in more)])
    return spending


def choose_measure(workers: Workers[Any], needs: Needs, *, threads: int) -> Measure:
    """Choose where dry steps are taken: on the workers' GPUs if runs need one, else on this machine."""
    if needs.gpus:
        return partial(measure_steps_on_workers, workers=workers, needs=needs)
    return partial(measure_steps_here, threads=threads)


def _measure_unknown(
    paces: Mapping[str, Pace], known: Mapping[str, DryStep], measure: Measure
) -> dict[str, DryStep]:
    """Measure only the paces that are not known."""
    return {**known, **measure({name: pace for name, pace in paces.items() if name not in known})}


def _measure_each(
    paces: Mapping[str, Pace], what: str, measure: Callable[[Pace], Measured]
) -> dict[str, Measured]:
    """Measure each pace, with a bar."""
    with progress_bar() as bar:
        named = bar.track(list(paces.items()), description=what)
        return {name: measure(pace) for name, pace in named}
