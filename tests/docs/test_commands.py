"""Every command that a document tells people to type exists, accepts its options, and works."""

import importlib
import logging
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from hand_made_students import need
from typed_commands import PAGES, ROOT, UnknownCommand, blocks, check, fenced, options_of

from jobs.command import run
from students import RECIPES
from students.ways import apply_way

MODULES = ("logit_store", "students.complexity", "students.export", "students.classify")
"""Modules that are run here, by `python -m`."""
JOBS = ("prepare", "status", "track")
"""Jobs that are run here; tests/jobs runs the others."""


def commands(page):
    return [words for block in blocks(page) for words in block]


def runs_here(words):
    match words:
        case ["python", "-m", "students.export", *options] if "c" in options:
            return False  # a slow test below runs it, and what follows it
        case ["python", "-m", module, *_]:
            return module in MODULES
        case ["python", script, *_]:
            return script in [f"jobs/{job}.py" for job in JOBS]
    return words[0] == "bash"


def python_blocks(page):
    return fenced((ROOT / page).read_text(), "python")


PAGES_WITH_COMMANDS = [page for page in PAGES if commands(page)]
PAGES_WITH_PYTHON = [
    page for page in PAGES if page.startswith(("README", "docs")) and python_blocks(page)
]
PAGES_TO_RUN = [page for page in PAGES if any(map(runs_here, commands(page)))]


LINKED = [
    *PAGES,
    *(
        str(page.relative_to(ROOT))
        for folder in ("docs/decisions", "cluster", "benchmarks")
        for page in sorted((ROOT / folder).rglob("*.md"))
    ),
]


def leads_somewhere(file, target):
    """Return whether a link of a page leads to a file, and to a heading of it if it names one."""
    name, _, anchor = target.partition("#")
    to = file.parent / name if name else file
    if not to.exists() or not anchor:
        return to.exists()
    headings = re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.fixture
def typed(demo_folder, tau_folder, logits_folder, monkeypatch, capsys):
    """Runs a command line in this process, in the folder of a demo, and makes sure that it succeeds."""
    # To plan the memory of a student takes seconds each; tests/students does.
    monkeypatch.setattr("students.ram.measure_architecture_ram", lambda *_, **__: 100_000)
    sound = next((tau_folder / "audio").iterdir())
    tau = ("/data/TAU-urban-acoustic-scenes-2022-mobile-development", "TAU_FOLDER", "TAU")
    places = {
        **dict.fromkeys(tau, tau_folder),
        **dict.fromkeys(("LOGITS_FOLDER", "logits"), logits_folder),
        **dict.fromkeys(("FILE.wav", "recording.wav"), sound),
        "/data/tutti": demo_folder / "tutti",
        "MEMBER": "tiny_isotropic_pool_int8",
    }
    monkeypatch.setattr(logging, "basicConfig", lambda **settings: None)

    def call(words):
        if words[0] != "python":
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            subprocess.run(words, check=True, env=os.environ | {"PATH": path})
            return
        _, *arguments = [str(places.get(word, word)) for word in words]
        monkeypatch.setattr(sys, "argv", arguments)
        code = _module(arguments) if arguments[0] == "-m" else _job(arguments[0])
        captured = capsys.readouterr()
        assert code == 0, f"{words}: {captured.out}{captured.err}"

    return call


def _module(arguments):
    _, name, *rest = arguments
    package = importlib.import_module(name)
    with_main = package if hasattr(package, "main") else importlib.import_module(f"{name}.__main__")
    return with_main.main(rest)


def _job(script):
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    with pytest.raises(SystemExit) as ended:
        run(module.main, options_of(script))
    return ended.value.code


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_every_command_exists_and_accepts_its_options(page):
    for words in commands(page):
        check(words)


@pytest.mark.parametrize("page", PAGES_TO_RUN)
def test_what_needs_no_cluster_works_as_written(page, typed):
    for words in filter(runs_here, commands(page)):
        typed(words)


@pytest.mark.slow
def test_a_student_of_the_demo_becomes_a_program_of_a_microcontroller_as_written(
    typed, demo_folder
):
    need("gcc", "make", "arm-none-eabi-gcc", "qemu-system-arm")
    for block in python_blocks("docs/device.md"):
        (demo_folder / "block.py").write_text(block)
        runpy.run_path("block.py")
    typed_here = [
        words
        for words in commands("docs/device.md")
        if words not in (["make", "demo"], ["source", ".venv/bin/activate"])
        and words[1] != "jobs/quantise.py"  # the store has its result
    ]
    assert len(typed_here) >= 6
    for words in typed_here:
        typed(words)
    assert (demo_folder / "student_c" / "student.elf").stat().st_size > 10_000
    readme = (demo_folder / "student_c" / "README.md").read_text()
    assert "| Cortex-M7 | " in readme.rpartition("## Measured")[2]


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON)
def test_the_python_of_a_page_runs(page, demo_folder, compiled):
    for block in python_blocks(page):
        (demo_folder / "block.py").write_text(block)
        assert runpy.run_path("block.py")


def test_readme_and_most_pages_have_commands_that_are_run():
    assert "README.md" in PAGES_TO_RUN
    assert len(PAGES_TO_RUN) > 5


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["rm", "-rf", "runs"], UnknownCommand),
        (["python", "-m", "http.server"], UnknownCommand),
        (["make", "coffee"], AssertionError),
        (["python", "jobs/coffee.py"], AssertionError),
        (["python", "jobs/prepare.py", "--milk"], SystemExit),
        (["python", "-m", "students.export", "isotropic", "--form", "milk"], SystemExit),
        (["ray", "job", "submit", "--", "python", "jobs/prepare.py", "--milk"], SystemExit),
    ],
)
def test_an_unknown_command_is_found(words, error):
    with pytest.raises(error):
        check(words)


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_in_another_kind_of_block(page):
    text = (ROOT / page).read_text()
    others = re.sub(r"^ *```(sh|python|diff)\n.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^ *(?:python|ray|make) .*", others, re.MULTILINE) == []


@pytest.mark.parametrize("page", LINKED)
def test_every_link_leads_somewhere(page):
    file = ROOT / page
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", file.read_text())
    assert [target for target in targets if not leads_somewhere(file, target)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CONTRIBUTING.md"])
def test_every_way_of_learning_that_a_page_names_is_one(page):
    for words in re.findall(r"--ways ((?:[a-z][\w=.+]* ?)+)", (ROOT / page).read_text()):
        for way in words.split():
            apply_way(RECIPES["isotropic"], way)
