"""The commands that stand for those of other projects plan what they say, and students run (N clips)."""

import functools
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import read
from typed_commands import ROOT, blocks

from audio.corpora import tau
from jobs.plan.students import StudentsOptions, plan_students
from jobs.plan.taught_by import find_teachers
from jobs.plan.teacher_options import TeachersOptions
from jobs.trials.options import SearchOptions
from jobs.worker import train
from logit_store import LogitKey, LogitStore
from students import RECIPES
from students.search_space import find_space
from teachers.probes import find_wanted_teachers
from terminal.console import UserError

PAGES = ("docs/from-asc-domain.md", "docs/from-other-seeds.md")
PUBLISHED = (
    "run_isotropic_training.py --split=5",
    "run_isotropic_training.py --model=mix, and --model=noact",
    "run_isotropic_hpo.py",
    "run_siren_training.py:",
    "run_adv_training.py",
    "run_rsc_training.py",
    "run_mn_training.py --width=0.4",
    "run_dymn_training.py --width=1.0",
    "run_passt_training.py",
    "run_cp-resnet_training.py",
    "run_convmixer_training.py --teacher=passt_dir_fms",
    "run_convmixer_training.py --teacher=best",
    "run_siren_training.py --teacher=best",
    "run_convmixer_adv_training.py --teacher=best",
    "run_siren_adv_training.py --teacher=best",
    "ensemble_selection.ipynb",
)
"""All commands of ASCDomain's README, with the arguments that it shows."""
TEACHERS = ("passt_dir_fms", "passt_sit", "bcbl32")
SPLIT = 25


@functools.cache
def read_commands():
    lines = [shlex.join(words) for page in PAGES for block in blocks(page) for words in block]
    return [read(line) for line in lines if line.startswith("python jobs/")]


def commands_of(kind):
    """Return the options of all commands of a kind on the pages."""
    return [each for each in read_commands() if isinstance(each, kind)]


@pytest.fixture(scope="module")
def corpus(tau_folder):
    return tau.read(tau_folder)


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    """A store with the teachers and ensembles of the pages."""
    made = LogitStore(tmp_path_factory.mktemp("seeds"))
    made.write_clips("tau", corpus.clips_table())
    truth_NK = 3.0 * np.eye(3)[corpus.labels()]
    keys = [LogitKey("tau", SPLIT, f"{name}-0123456789ab") for name in TEACHERS]
    for key in keys:
        made.write(key, truth_NK, {"kind": "teacher", "protocol": "honest"})
    pairs = [{"member": k.member, "hash": made.read_footer(k).logits_hash} for k in keys]
    for number, name in enumerate(("stepwise", "sit", "sit_and_bcbl")):
        document = {
            "space": "logits",
            "members": [pair | {"weight": 1 / 3, "temperature": 1.0} for pair in pairs],
            "candidates": pairs,
            "fold": "select",
            "optimism": {"nested": number},
        }
        made.ensembles.write("tau", SPLIT, name, document)
    return made


@pytest.fixture(autouse=True)
def unknown_ram(monkeypatch):
    """No plans of memory, which take seconds for each student and are not what is asked here."""
    monkeypatch.setattr("jobs.plan.students.find_ram", lambda recipe, corpus: None)


def planned(options, corpus, store, **changes):
    here = {"root": str(corpus.root), "store": store.address, "splits": (SPLIT,)}
    chosen = replace(options, **here | {"impulse_responses": None} | changes)
    teachers = find_teachers(chosen, "tau", store)
    return plan_students(chosen, corpus, store, teachers)


def test_every_command_of_asc_domains_readme_stands_above_one_of_ours():
    text = (ROOT / PAGES[0]).read_text()
    for command in PUBLISHED:
        pattern = rf"^# (?:python )?{re.escape(command)}.*\n(?:#.*\n)*python jobs/"
        assert re.search(pattern, text, re.MULTILINE), command


def test_a_students_command_plans_its_recipes_with_the_teacher_that_it_names(corpus, store):
    options = [each for each in commands_of(StudentsOptions) if "modulated" not in each.ways]
    assert len(options) > 14
    for each in options:
        tasks = planned(each, corpus, store)
        assert len(tasks) == len(each.recipes) * len(each.ways) * max(1, len(each.seeds))
        if each.teacher == "best":
            assert {task.work.taught_by.partition("@")[0] for task in tasks} == {"stepwise"}


def test_siren_and_its_adversary_learn_from_the_best_ensemble_as_published(corpus, store):
    (options,) = (
        each
        for each in commands_of(StudentsOptions)
        if (each.recipes, each.ways) == (("siren",), ("published",))
    )
    (task,) = planned(options, corpus, store)
    recipe = task.work.recipe
    assert recipe.model == "recursive"
    assert recipe.device_loss_weight == 0.025
    assert recipe.distillation == RECIPES["isotropic_ascdomain"].distillation


def test_the_grid_has_540_points_and_the_teachers_are_22():
    (search,) = commands_of(SearchOptions)
    assert len(find_space(search.space).list_points()) == 540
    every = [each.recipes for each in commands_of(TeachersOptions)]
    assert len(find_wanted_teachers(["all"]).recipes) == 22
    assert ("all",) in every
    for recipes in every:
        wanted = find_wanted_teachers(recipes)
        assert wanted.recipes or wanted.probes


def test_colours_are_refused_where_no_two_devices_recorded_one_sound(corpus, store):
    (options,) = (each for each in commands_of(StudentsOptions) if "modulated" in each.ways)
    with pytest.raises(UserError, match="colours of devices cannot be measured"):
        planned(options, corpus, store)


@pytest.mark.slow
def test_every_students_command_trains_on_the_tones(corpus, store, monkeypatch, tmp_path):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path))
    monkeypatch.setattr(train, "find_reserved_device", lambda: torch.device("cpu"))
    done = set()
    for each in commands_of(StudentsOptions):
        if "modulated" in each.ways:
            continue
        for task in planned(each, corpus, store, max_steps=2, seeds=(0,)):
            done.add(task.work.run())
    assert len(done) > 20
    assert all(Path(store.address).is_dir() and key in store for key in done)
