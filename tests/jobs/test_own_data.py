from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from jobs.plan.provision import prepare_teachers
from jobs.plan.teacher_options import TeachersOptions
from jobs.plan.teachers import plan_teachers
from jobs.worker.teacher_logits import read_teacher_logits
from students import RECIPES
from students.distill import distill

RATE = 32_000
CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with two classes of eight files each, 0.4 to 3.2 s long, two files a recording."""
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "own"
    root.mkdir()
    lines = ["path,label,recording"]
    for number in range(16):
        rng = np.random.default_rng(number)
        sound = 0.1 * rng.standard_normal(round(0.4 * (1 + number // 2) * RATE))
        soundfile.write(root / f"{number}.wav", sound, RATE)
        lines.append(f"{number}.wav,{('cat', 'dog')[number % 2]},{number // 4}{number % 2}")
    (root / "clips.csv").write_text("\n".join(lines))
    return root


def test_a_teacher_and_a_student_learn_from_files_of_several_lengths(root, tmp_path):
    options = TeachersOptions(
        corpus="folder",
        root=str(root),
        store=str(tmp_path / "store"),
        recipes=("demo_cpr",),
        splits=(100,),
        max_steps=2,
        length="pad:3",
    )
    store = options.open_store()
    planned = plan_teachers(options, options.open_corpus(store), store)
    prepare_teachers(planned, planned.find_missing())
    (task,) = planned.find_missing()
    teacher = task.work.run_on_device(CPU)
    recipe = RECIPES["demo_isotropic"]
    recipe = replace(recipe, training=replace(recipe.training, max_steps=2))
    corpus = task.work.where.open()[1]
    soft = read_teacher_logits(store, corpus.name, 100, teacher.member, None)
    student = distill(recipe, corpus, 100, 0, store, soft, responses=None, device=CPU)
    assert corpus.clip_duration_s == pytest.approx(1.8)
    assert len(corpus) > 16
    logits_MNK = store.read([teacher, student])
    assert logits_MNK.shape == (2, len(corpus), 2)
    assert store.read_clips("folder")["clip_id"].to_pylist() == corpus.column("clip_id").tolist()
    # Each clip has its own logits; those of two clips of noise may be equal in 16 bits.
    assert len(np.unique(logits_MNK[0], axis=0)) > 0.8 * len(corpus)
