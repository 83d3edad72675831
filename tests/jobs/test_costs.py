import sys
import time
import tomllib
from dataclasses import dataclass

import pytest

from jobs.plan.options import LearningOptions
from jobs.schedule.fanout import FanOut
from jobs.schedule.prices import PRICES, Price, find_price
from jobs.schedule.spending import Spending
from jobs.schedule.task import GIB, Needs, Outcome, Task, make_names_unique
from jobs.schedule.workers import InProcess
from logit_store import LogitKey
from terminal.console import UserError

ENTRY = """
currency = "EUR"
[big]
gpus = 4
cpus = 16
memory_gib = 64
accelerator = "NVIDIA A10G"
on_demand = 8.0
spot = 2.0
read = 2026-01-31
source = "a list"
"""


@pytest.fixture
def big(tmp_path) -> Price:
    file = tmp_path / "prices.toml"
    file.write_text(ENTRY)
    return find_price("big", file)


@dataclass(frozen=True)
class Sleep:
    """Work that takes a fifth of a second."""

    def run(self):
        time.sleep(0.2)


def task(name, **needs):
    return Task(name, Sleep(), **needs)


@pytest.mark.parametrize(
    ("needs", "share"),
    [
        (Needs(cpus=4), 1 / 4),
        (Needs(cpus=1, gpus=0.5), 1 / 8),
        (Needs(cpus=1, memory_bytes=32 * GIB), 1 / 2),
        (Needs(cpus=8, gpus=8), 2),
    ],
)
def test_a_run_pays_for_what_it_takes_most_of(big, needs, share):
    assert big.find_share(needs) == pytest.approx(share)
    assert big.find_cost(needs, 1800, spot=False) == pytest.approx(share * 4)
    assert big.find_cost(needs, 1800, spot=True) == pytest.approx(share)


def test_every_price_of_the_project_is_whole_and_says_where_it_is_from():
    names = [
        name for name, entry in tomllib.loads(PRICES.read_text()).items() if name != "currency"
    ]
    assert len(names) > 5
    for name in names:
        price = find_price(name)
        assert price.source
        assert bool(price.accelerator) <= bool(price.gpus)


def test_a_machine_of_ones_own_costs_nothing_unless_one_says_so():
    assert LearningOptions().find_price().on_demand == 0
    assert LearningOptions(machine="aws-g5-xlarge").find_price().on_demand > 0


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("[big]", "[huge]", "has no machine big; it has huge"),
        ("on_demand = 8.0", 'on_demand = "8"', r"\[big\]: on_demand is '8'"),
        ("cpus = 16", "cpus = 0", r"\[big\]: cpus is 0"),
        ("on_demand = 8.0", "on_demand = nan", r"\[big\]: on_demand is nan"),
        ("on_demand = 8.0", "on_demand = inf", r"\[big\]: on_demand is inf"),
        ("on_demand = 8.0", "", r"\[big\]: on_demand: Field required"),
        ("spot = 2.0", "sport = 2.0\nspot = 2.0", r"\[big\]: sport is 2.0"),
        ('currency = "EUR"', "", r"\[big\]: currency"),
        ("gpus = 4", "gpus =", "prices.toml: "),
    ],
)
def test_a_malformed_price_is_one_message_that_names_it(tmp_path, written, instead, message):
    file = tmp_path / "prices.toml"
    file.write_text(ENTRY.replace(written, instead))
    with pytest.raises(UserError, match=message):
        find_price("big", file)


def test_a_spot_price_that_nobody_looked_up_is_asked_for(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text(ENTRY.replace("spot = 2.0", ""))
    with pytest.raises(UserError, match="no spot price of big; look at a list"):
        find_price("big", file).find_cost(Needs(), 60, spot=True)


def test_a_run_on_a_gpu_is_refused_a_machine_without_one():
    with pytest.raises(UserError, match="--machine aws-m7i-2xlarge has no GPU"):
        find_price("aws-m7i-2xlarge").find_share(Needs(gpus=1))


def test_a_teacher_on_several_gpus_pays_for_them_all():
    several = task("one", needs=Needs(cpus=0), occupies=Needs(gpus=4))
    assert several.find_cost_needs(Needs()).gpus == 4
    assert task("one", needs=Needs(gpus=0.3)).find_cost_needs(Needs(gpus=1)).gpus == 0.3
    assert task("one").find_cost_needs(Needs(gpus=1)).gpus == 1


def test_what_runs_counts_as_expected_and_what_ran_as_it_took(big):
    spending = Spending(10, big, Needs(cpus=16), {"a": 3600, "b": 3600})
    spending.start(task("a"))
    assert spending.committed == 8
    assert spending.may_start()
    spending.start(task("b"))
    assert not spending.may_start()
    spending.end(Outcome(task("a"), took_s=900))
    # One task took a quarter of what was expected, so the other is expected to as well.
    assert spending.spent == 2
    assert spending.committed == pytest.approx(4)
    assert spending.may_start()


def test_two_tasks_of_one_name_are_two_tasks(big):
    spending = Spending(100, big, Needs(cpus=16), {})
    keys = [(LogitKey("tau", 25, f"same-{n}"),) for n in range(2)]
    tasks = [task("same", keys=each) for each in keys]
    for each in tasks:
        spending.start(each)
    for each in tasks:
        spending.end(Outcome(each, took_s=900))
    assert spending.spent == 4
    names = [each.name for each in make_names_unique([*tasks, *tasks, task("other")])]
    assert names == ["same (0)", "same (1)", "other"]


def test_tasks_of_which_nothing_is_known_count_as_those_that_ended(big):
    spending = Spending(10, big, Needs(cpus=16), {})
    spending.start(task("a"))
    assert spending.committed == 0
    spending.end(Outcome(task("a"), took_s=1800))
    spending.start(task("b"))
    assert spending.committed == 8


def test_until_one_has_ended_tasks_count_as_they_usually_do(big):
    spending = Spending(10, big, Needs(cpus=16), {}, usual_s=3600)
    spending.start(task("a"))
    assert spending.committed == 8
    spending.end(Outcome(task("a"), took_s=900))
    spending.start(task("b"))
    assert spending.committed == 4


def test_a_run_that_failed_counts_as_it_was_expected(big):
    spending = Spending(10, big, Needs(cpus=16), {"a": 3600})
    spending.start(task("a"))
    spending.end(Outcome(task("a"), error="it broke"))
    assert spending.spent == 8


def test_what_is_left_is_named_with_the_command_that_goes_on(big, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jobs/teachers.py", "--budget", "10", "--recipes", "mn*"])
    Spending(10, big, Needs(), {}).say_end(["first", "second"])
    printed = capsys.readouterr().err
    assert "budget of 10.00 EUR reached; not started: first, second" in printed
    assert "python jobs/teachers.py --budget 10 --recipes 'mn*'" in printed


def test_a_budget_ends_the_launching_and_lets_finish_what_runs(big, monkeypatch):
    # Each is expected to cost 3, and costs more where the machine is busy.
    expected_s = dict.fromkeys("abcdef", 0.2)
    price = big.model_copy(update={"on_demand": 3 * 16 * 3600 / 0.2})
    spending = Spending(10, price, Needs(cpus=1), expected_s)
    committed, start = [], spending.start

    def note_start(task):
        committed.append(spending.committed)
        start(task)

    monkeypatch.setattr(spending, "start", note_start)
    work = FanOut(InProcess(), Needs(cpus=1), spending=spending)
    work.add(task(name) for name in expected_s)
    ended = list(work)
    assert all(outcome.error is None for outcome in ended)
    started = sorted(outcome.task.name for outcome in ended)
    assert [*started, *(task.name for task in work.left)] == list(expected_s)
    assert work.left
    assert len(started) == len(committed)
    assert max(committed) < 10 <= spending.spent
