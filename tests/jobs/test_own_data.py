from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from jobs.command import Where
from jobs.teacher_runs import TeachersOptions, plan
from jobs.teachers import prepare_all
from jobs.units import soft_of, teach_on
from students import RECIPES
from students.distill import distill

RATE = 32_000
CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two classes, eight files of each from 0.4 to 3.2 s, two files a recording."""
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


def test_files_of_several_lengths_are_taught_to_a_teacher_and_a_student(root, tmp_path):
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
    planned = plan(options, options.open_corpus(store), store)
    prepare_all(planned, planned.to_do())
    (task,) = planned.to_do()
    where = Where.of(options.corpus, options.root, store)
    teacher = teach_on(CPU, task.arguments["run"], where, None, n_views=1)
    recipe = RECIPES["demo_isotropic"]
    recipe = replace(recipe, training=replace(recipe.training, max_steps=2))
    corpus = where.open()[1]
    soft = soft_of(store, corpus.name, 100, teacher.member, None)
    student = distill(recipe, corpus, 100, 0, store, soft, responses=None, device=CPU)
    assert corpus.clip_duration_s == pytest.approx(1.8)
    assert len(corpus) > 16
    logits_MNK = store.read([teacher, student])
    assert logits_MNK.shape == (2, len(corpus), 2)
    assert store.clips("folder")["clip_id"].to_pylist() == corpus.column("clip_id").tolist()
    # A clip's logits are its own; two of noise may be equal in 16 bits.
    assert len(np.unique(logits_MNK[0], axis=0)) > 0.8 * len(corpus)
