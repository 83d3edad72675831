"""Estimates what the trials of a search take and cost."""

from functools import partial
from typing import Any

from audio.clips import Corpus
from jobs.plan.dry_run import find_planned_needs, show_estimates
from jobs.plan.estimates import (
    Estimate,
    Measure,
    choose_measure,
    estimate_runs,
    find_machine,
    measure_steps_here,
)
from jobs.plan.ram import show_ram
from jobs.plan.workload import count_workload
from jobs.schedule.spending import Spending
from jobs.schedule.task import Needs
from jobs.schedule.workers import Workers
from jobs.trials.options import SearchOptions
from logit_store import LogitStore
from students import StudentRecipe
from students.search_space import shorten


def plan_trial_spending(
    base: StudentRecipe,
    corpus: Corpus,
    store: LogitStore,
    options: SearchOptions,
    workers: Workers[Any],
    needs: Needs,
) -> Spending | None:
    """Return the budget that the options of a search set, with what a trial is expected to take.

    Raises:
        UserError: the budget is not above 0, or the machines of a cluster are not named.
    """
    budget = options.find_budget(on_cluster=workers.is_shared)
    if budget is None:
        return None
    measure = choose_measure(workers, needs, threads=options.cpus_per_run)
    one = estimate_trial(base, corpus, store, options, needs, measure)
    return Spending(budget, options.find_price(), needs, {}, usual_s=one.seconds, spot=options.spot)


def estimate_trial(
    base: StudentRecipe,
    corpus: Corpus,
    store: LogitStore,
    options: SearchOptions,
    needs: Needs,
    measure: Measure,
) -> Estimate:
    """Estimate a trial of a search that is never stopped, if it needs as much as the base recipe."""
    device = find_machine(options.find_price(), options.cpus_per_run)
    work = count_workload(corpus, shorten(base, options.epochs), options.split, n_views=0)
    (one,) = estimate_runs({"trial": work}, {"trial": needs}, store, device, measure).values()
    return one


def show_trials(
    n: int,
    base: StudentRecipe,
    corpus: Corpus,
    store: LogitStore,
    options: SearchOptions,
) -> None:
    """Print what `n` trials of a search need and cost, if each needs as much as the base recipe.

    Raises:
        UserError: a trial does not fit on this machine, or prices.toml is malformed or has no such
            machine.
    """
    price, cpus = options.find_price(), options.cpus_per_run
    if price.is_own:
        options.as_students().check_fit_here()
    needs = find_planned_needs(options, cpus, options.gpus_per_run)
    one = estimate_trial(
        base, corpus, store, options, needs, partial(measure_steps_here, threads=cpus)
    )
    name, device = f"a trial, as {base.name}", find_machine(price, cpus)
    alike = {f"{name} {place}": one for place in range(1, n)}
    show_estimates([name], {name: one, **alike}, device, price, spot=options.spot)
    show_ram([(base, corpus)])
