"""What is imported, and when: one fresh interpreter for all claims of this file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, pathlib, sys

def note(stage):
    seen[stage] = sorted({name.partition(".")[0] for name in sys.modules})

seen = {}
import teachers.recipes
from teachers import CATALOGUE, RECIPES, TeacherRun, WeightsError, find_architecture
from teachers.backbones import find_backbone
from teachers.fetch import fetch_file
from teachers.run import check_input, make_teacher_key
from training import Ema, EpochMetrics, Protocol, TrainingRecipe, find_commit, list_view_keys
from training.needs import DryStep
from training.trackers import send_to_mlflow
find_backbone("aisfx"), find_backbone("mn10_as")
note("descriptions")
import torch
from teachers import build
from teachers.finetune import finetune
build("mn10_as", n_classes=5, weights="none", width=0.1)
note("a MobileNet")
from teachers.passt import PaSST
PaSST(5, embed_dim=16, depth=1, heads=2)(torch.zeros(1, 1, 128, 101))
pathlib.Path(sys.argv[1]).write_text(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the program with warnings as errors; return what it printed and which modules it had."""
    out = tmp_path_factory.mktemp("imports") / "seen.json"
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, json.loads(out.read_text())


def test_recipes_runs_and_errors_need_neither_torch_nor_ray(run):
    heavy = {
        "torch",
        "torchvision",
        "torchaudio",
        "timm",
        "scipy",
        "requests",
        "ray",
        "s3fs",
        "aisfx",
    }
    heavy |= {"onnx", "onnxruntime"}
    assert heavy & set(run[1]["descriptions"]) == set()


def test_timm_is_imported_only_for_its_models(run):
    assert {"timm", "torchvision", "hear21passt", "s3fs"} & set(run[1]["a MobileNet"]) == set()
    assert "torch" in run[1]["a MobileNet"]


def test_importing_and_running_a_passt_prints_nothing(run):
    assert run[0] == ""
