"""CONTRIBUTING.md's worked examples, followed in a copy of the project."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [
    "audio",
    "disk",
    "logit_store",
    "metrics",
    "redact",
    "students",
    "teachers",
    "terminal",
    "training",
]
EXAMPLES = ("A corpus", "A teacher", "A student", "An objective")
GOES_ON = " ..."

USED = """
import json, sys
from dataclasses import asdict, replace
from pathlib import Path
import torch
from audio import corpora
import teachers
from teachers.dry_step import measure_teacher_step as teach
from teachers.run import check_input
from students import RECIPES, build
from students.distill import check_recipe, measure_recipe
from students.dry_step import measure_student_step as distill
from students.jeffreys import jeffreys_loss
from students.losses import soft_label_loss
from students.recipe import Jeffreys
from students.records import restore_recipe
from students.ways import apply_way

corpus = corpora.read("field", Path(sys.argv[1]))
recipe = teachers.RECIPES["plain_cnn"]
check_input(recipe, corpus)
model = teachers.build("plain_cnn", n_classes=3, weights="none")
logits_BK, embedding_BD = model(torch.zeros(2, 1, 64, 20))
cpu = torch.device("cpu")
shallow = RECIPES["shallow"]
check_recipe(shallow, corpus)
way = apply_way(RECIPES["isotropic"], "jeffreys")
soft_BK = torch.tensor([[0.7, 0.2, 0.1]])
other_BK = torch.tensor([[0.0, 1.0, 2.0]])
print(json.dumps({
    "folds": corpus.table["fold_100"].to_pylist(),
    "scenes": corpus.scenes,
    "teacher": [*logits_BK.shape, *embedding_BD.shape],
    "teacher_step_s": teach(recipe, corpus.scenes, 1.0, cpu).train_clip_s,
    "student_bytes": measure_recipe(shallow, corpus).parameter_bytes("int8"),
    "student_step_s": distill(shallow, corpus.scenes, 1.0, cpu).train_clip_s,
    "way_step_s": distill(way, corpus.scenes, 1.0, cpu).train_clip_s,
    "way_is_kept": restore_recipe({"kind": "student", "recipe": asdict(way)}) == way,
    "of_one_that_agrees": jeffreys_loss(soft_BK.log(), soft_BK, 1.0, Jeffreys()).item(),
    "without_the_way_back": jeffreys_loss(other_BK, soft_BK, 2.0, Jeffreys(back_weight=0)).item(),
    "divergence": soft_label_loss(other_BK, soft_BK, 2.0).item(),
}))
"""


def sections():
    """Return the text of each example by its title."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    parts = re.split(r"^### (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(section, language):
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def parts_of(block):
    """Return (file, lines) for each line `# file` of a block and the lines below it."""
    names = re.split(r"^# (\S+\.py)\n", block, flags=re.MULTILINE)
    assert names[0] == ""
    return list(zip(names[1::2], names[2::2], strict=True))


def changed(text, hunk):
    """Return a file's text with a hunk of a diff applied; its old lines must occur exactly once."""
    lines = hunk.splitlines()
    old = "\n".join(line[1:].removesuffix(GOES_ON) for line in lines if line[0] in " -")
    new = "\n".join(line[1:].removesuffix(GOES_ON) for line in lines if line[0] in " +")
    assert text.count(old) == 1, f"{text.count(old)} times, expected once: {old}"
    return text.replace(old, new)


def follow(section, root):
    """Follow an example in a copy of the project, and return the files that it adds."""
    added = []
    for block in blocks(section, "python"):
        ((name, text),) = parts_of(block)
        assert not (root / name).exists()
        (root / name).write_text(text)
        added.append(name)
    for name, hunks in (part for block in blocks(section, "diff") for part in parts_of(block)):
        file = root / name
        for hunk in re.split(r"\n{2,}", hunks.strip("\n")):
            file.write_text(changed(file.read_text(), hunk))
    return added


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project in which all examples were followed, and the files that they add."""
    root = tmp_path_factory.mktemp("copy")
    not_needed = shutil.ignore_patterns("__pycache__", "demo", "*.csv.gz")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=not_needed)
    shutil.copy(ROOT / "pyproject.toml", root)
    added = [name for title in EXAMPLES for name in follow(sections()[title], root)]
    return root, added


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A corpus of six places with three labels; three places are for the test."""
    root = tmp_path_factory.mktemp("field")
    lines = ["file,label,place,test"]
    for number, label in enumerate(("birds", "cars", "rain") * 4):
        name, place = f"{number}.wav", f"{label}-{number // 3}"
        soundfile.write(root / name, np.zeros(8000), 8000)
        lines.append(f"{name},{label},{place},{'yes' if number < 3 else 'no'}")
    (root / "index.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def found(copy, recordings):
    """What a program finds in the copy."""
    done = subprocess.run(
        [sys.executable, "-c", USED, str(recordings)],
        cwd=copy[0],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_is_less_than_40_lines_to_write(title):
    section = sections()[title]
    written = [line for block in blocks(section, "python") for line in block.splitlines()]
    edited = [line for block in blocks(section, "diff") for line in block.splitlines()]
    written += [line for line in edited if line.startswith("+")]
    assert 10 < len(written) < 40


def test_the_files_of_the_examples_pass_the_house_rules(copy):
    root, added = copy
    for rule in (("check",), ("format", "--check")):
        done = subprocess.run(
            [Path(sys.executable).parent / "ruff", *rule, *added],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_the_new_corpus_is_read(found):
    assert found["scenes"] == ["birds", "cars", "rain"]
    assert found["folds"][:3] == ["test"] * 3
    assert sorted(found["folds"][3:]) == ["fit"] * 6 + ["select"] * 3


def test_the_new_teacher_is_built_and_learns(found):
    assert found["teacher"] == [2, 3, 2, 64]
    assert found["teacher_step_s"] > 0


def test_the_new_student_keeps_the_budget_and_learns(found):
    assert 0 < found["student_bytes"] < 128_000
    assert found["student_step_s"] > 0


def test_the_new_objective_is_what_it_says_and_teaches(found):
    assert found["way_step_s"] > 0
    assert found["way_is_kept"]
    assert found["of_one_that_agrees"] == pytest.approx(0, abs=1e-6)
    assert found["without_the_way_back"] == pytest.approx(found["divergence"], rel=1e-6)


def test_a_line_that_is_no_longer_there_is_found():
    with pytest.raises(AssertionError, match="0 times, expected once"):
        changed("a\nb\n", " c\n+d")
