"""One teacher trained by two workers of a Ray Train run, over gloo on the CPU."""

import json
import threading
from dataclasses import replace

import psutil
import pytest
import torch
from corpus_files import write_corpus

from audio.corpora import tau
from jobs.worker.train import FineTune
from jobs.worker.where import Where
from logit_store import LogitStore
from teachers import RECIPES, TeacherRun
from teachers.run import make_teacher_key

# Ray Train warns about its own future changes when it is imported.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("own_cluster"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("tones") / "tau")


def shorten(max_epochs):
    """Return a run of CP-ResNet: it has four blocks of batch normalisations, and no dropout."""
    recipe = RECIPES["demo_cpr"]
    training = replace(recipe.training, max_epochs=max_epochs, clips_per_epoch=32)
    return TeacherRun(recipe=replace(recipe, training=training), split=100)


def losses(store, run, root):
    key = make_teacher_key(run, tau.read(root), None)
    record = json.loads(LogitStore(store).objects.read(f"teachers/v1/{key.member}/record.json"))
    return [(f["loss"], f["select_log_loss"]) for f in record["history"]]


def plan(run, root, store):
    """Return the work for a store that has the clips."""
    LogitStore(store).write_clips("tau", tau.read(root).clips_table())
    where = Where("tau", str(root), str(store))
    return FineTune(teacher=run, where=where, responses=None)


def test_two_workers_one_of_them_killed_have_the_losses_of_one(root, tmp_path, wait_for):
    # Ray Train takes seconds to import.
    from jobs.worker.several_gpus import run_on_workers

    run = shorten(12)
    one, two = (plan(run, root, tmp_path / name) for name in ("one", "two"))
    one.run_on_device(torch.device("cpu"))

    def kill():
        checkpoints = "two/teachers/v1/*/checkpoint.pt"
        wait_for(lambda: list(tmp_path.glob(checkpoints)), "a checkpoint")
        workers = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "RayTrainWorker" in " ".join(process.info["cmdline"] or [])
        ]
        workers[-1].kill()
        killed.append(len(workers))

    killed: list[int] = []
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    notes = tmp_path / "two" / "train"
    run_on_workers(two.run_on_device, str(notes), n_workers=2, use_gpu=False)
    killer.join()
    assert killed == [2]
    alone, together = (losses(tmp_path / name, run, root) for name in ("one", "two"))
    assert len(together) == 12
    # Sums in another order are rounded differently in float32, which grows from step to step.
    for of_one, of_two in list(zip(alone, together, strict=True))[:2]:
        assert of_two == pytest.approx(of_one, rel=1e-3)
    assert not notes.exists()
