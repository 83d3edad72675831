"""One teacher by two workers of a Ray Train run, over gloo on the CPU."""

import json
import threading
from dataclasses import replace

import psutil
import pytest
import torch
from corpus_files import write_corpus

from jobs.command import Where
from jobs.units import teach_on
from logit_store import LogitStore
from teachers import RECIPES, TeacherRun
from teachers.finetune import teacher_key

# Ray Train's imports warn of Ray's own coming changes.
pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("own_cluster"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("tones") / "tau")


def short(max_epochs):
    """CP-ResNet: four blocks of batch normalisations, and no dropout."""
    recipe = RECIPES["demo_cpr"]
    training = replace(recipe.training, max_epochs=max_epochs, clips_per_epoch=32)
    return TeacherRun(recipe=replace(recipe, training=training), split=100)


def losses(store, run, root):
    from audio.corpora import tau

    key = teacher_key(run, tau.read(root), None)
    record = json.loads(LogitStore(store).read_object(f"teachers/v1/{key.member}/record.json"))
    return [(f["loss"], f["select_log_loss"]) for f in record["history"]]


def arguments(run, root, store):
    """Of `teach_on`, with a store that knows the clips."""
    from audio.corpora import tau

    LogitStore(store).write_clips("tau", tau.read(root).clips_table())
    return run, Where("tau", str(root), str(store)), None, 1


def test_two_workers_one_of_them_killed_have_the_losses_of_one(root, tmp_path, wait_for):
    # Ray is imported by jobs.cluster first, which tells it how to authenticate.
    from jobs.together import teach_together

    run = short(12)
    one, two = (arguments(run, root, tmp_path / name) for name in ("one", "two"))
    teach_on(torch.device("cpu"), *one)

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
    teach_together(two, str(notes), n_workers=2, use_gpu=False)
    killer.join()
    assert killed == [2]
    alone, together = (losses(tmp_path / name, run, root) for name in ("one", "two"))
    assert len(together) == 12
    # Sums in another order: float32 rounding, which grows from step to step.
    for of_one, of_two in list(zip(alone, together, strict=True))[:2]:
        assert of_two == pytest.approx(of_one, rel=1e-3)
    assert not notes.exists()
