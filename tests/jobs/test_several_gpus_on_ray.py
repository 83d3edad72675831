"""One teacher trained by two workers of a Ray Train run, over gloo on the CPU."""

import json
import os
import signal
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import ray
import torch
from corpus_files import write_corpus

from audio.corpora import tau
from jobs.schedule.fanout import FanOut
from jobs.schedule.job_log import JobLog
from jobs.schedule.task import Needs, Task
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


@dataclass(frozen=True)
class HangTogether:
    """Work by two workers, of which one stops its own process the first time."""

    folder: str

    def run(self):
        from jobs.worker.several_gpus import run_on_workers

        folder = Path(self.folder)

        def work(device):
            (folder / f"worker-{os.getpid()}").touch()
            if ray.train.get_context().get_world_rank() == 1 and not (folder / "hung").exists():
                (folder / "hung").write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGSTOP)
            torch.distributed.barrier()

        run_on_workers(work, str(folder / "train"), n_workers=2, use_gpu=False)
        return "survived"


@pytest.mark.usefixtures("address")  # another cluster on the machine
def test_two_workers_one_of_which_hangs_are_both_ended_and_run_again(
    tmp_path, wait_for, own_cluster
):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    task = Task("stuck", HangTogether(str(tmp_path)), needs=Needs(cpus=0))
    with JobLog(LogitStore(tmp_path / "store")) as log:
        log.plan([task], [False])
        # Ray Train takes half a minute to start two workers on a busy machine.
        fan_out = FanOut(own_cluster.workers, Needs(), log=log, timeout_s=60)
        fan_out.add([task])
        (outcome,) = fan_out
    assert outcome.result == "survived"
    pids = [int(each.name.removeprefix("worker-")) for each in tmp_path.glob("worker-*")]
    assert len(pids) == 4
    hung = int((tmp_path / "hung").read_text())
    wait_for(lambda: not psutil.pid_exists(hung), "the end of the process", 60)


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
