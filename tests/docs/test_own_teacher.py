"""What docs/own-teacher.md says of a teacher of one's own, followed to the end: a student learns from it."""

import runpy
from dataclasses import replace

import numpy as np
import torch
from demo_store import few_clips
from typed_commands import ROOT, fenced

from jobs.worker.teacher_logits import read_teacher_logits
from logit_store import LogitStore
from students import RECIPES
from students.checks import check_teachers
from students.distill import distill
from students.ways import apply_way


def test_a_student_learns_from_the_views_of_a_teacher_of_ones_own(demo_folder):
    for block in fenced((ROOT / "docs/own-teacher.md").read_text(), "python"):
        (demo_folder / "block.py").write_text(block)
        runpy.run_path("block.py")
    store, corpus = LogitStore("runs/own-teacher"), few_clips()
    (teacher,) = [key for key in store.keys() if key.member.startswith("ours-")]
    recipe = apply_way(RECIPES["tiny_isotropic"], "distilled+views=4")
    recipe = replace(
        recipe,
        arguments={"filters": 16, "depth": 2},
        training=replace(recipe.training, max_epochs=2, max_steps=2),
    )
    soft = read_teacher_logits(store, "demo", 25, teacher.member, 4)
    check_teachers(recipe, corpus, 25, soft.members, store, None)
    key = distill(recipe, corpus, 25, 0, store, soft, responses=None, device=torch.device("cpu"))
    assert np.isfinite(store.read([key])).all()
    assert store.read_record(key)["ensemble"] == teacher.member
