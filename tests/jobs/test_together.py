"""One teacher by two workers of a Ray Train run, over gloo on the CPU."""

import json
from dataclasses import replace

import psutil
import pytest
from corpus_files import write_corpus

from jobs.cluster import cluster
from logit_store import LogitStore
from teachers import RECIPES, TeacherRun
from teachers.finetune import teacher_key

# Ray Train's imports warn of Ray's own coming changes.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")]


@pytest.fixture(scope="module", autouse=True)
def connected():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster():
            yield


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


def taught_by(n_workers, run, root, store):
    # Ray is imported by jobs.cluster first, which tells it how to authenticate.
    from jobs.command import Where
    from jobs.together import teach_together

    LogitStore(store).write_clips("tau", _clips(root))
    arguments = (run, Where("tau", root, str(store)), None, 1)
    teach_together(arguments, str(store / "train"), n_workers=n_workers, use_gpu=False)
    return losses(store, run, root)


def _clips(root):
    from audio.corpora import tau

    return tau.read(root).clips_table()


def test_two_workers_have_the_losses_of_one(root, tmp_path):
    run = short(2)
    together = taught_by(2, run, root, tmp_path / "two")
    alone = taught_by(1, run, root, tmp_path / "one")
    # Sums in another order: float32 rounding, grown over four steps.
    for of_two, of_one in zip(together, alone, strict=True):
        assert of_two == pytest.approx(of_one, rel=1e-3)
    assert not (tmp_path / "two" / "train").exists()


def test_a_killed_worker_is_replaced_and_the_run_goes_on_from_its_checkpoint(
    root, tmp_path, wait_for
):
    import threading

    run, store = short(12), tmp_path / "store"

    def kill():
        wait_for(lambda: list(store.glob("teachers/v1/*/checkpoint.pt")), "a checkpoint")
        workers = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "RayTrainWorker" in " ".join(process.info["cmdline"] or [])
        ]
        killed.append(len(workers))
        workers[-1].kill()

    killed: list[int] = []
    killer = threading.Thread(target=kill)
    killer.start()
    interrupted = taught_by(2, run, root, store)
    killer.join()
    assert killed
    assert len(interrupted) == 12
