"""What commands say of themselves: --help, and docs/reference.md."""

import re
from dataclasses import dataclass

import pytest
from command_lines import COMMANDS as ALL
from command_lines import read

from docs.make_reference import FILE, ROOT, render_reference
from terminal import COLUMNS, describe_options, find_examples

COMMANDS = {command.program: command for command in ALL}


@dataclass(frozen=True)
class Silent:
    """Options."""

    number: int = 1


def help_of(command, capsys):
    with pytest.raises(SystemExit) as ended:
        read(f"{command.program} --help")
    captured = capsys.readouterr()
    assert (ended.value.code, captured.err) == (0, "")
    return captured.out


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


def test_every_file_that_can_be_run_is_a_command_with_a_reference():
    packages = ("jobs", "logit_store", "students", "report", "cluster", "teachers", "training")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    runnable = [
        file.relative_to(ROOT)
        for file in files
        if re.search(r'^if __name__ == "__main__":', file.read_text(), re.MULTILINE)
    ]
    assert runnable
    for file in runnable:
        module = ".".join(file.with_suffix("").parts).removesuffix(".__main__")
        program = f"python {file}" if file.parts[0] == "jobs" else f"python -m {module}"
        assert any(name.startswith(program) for name in COMMANDS), program


@pytest.mark.parametrize("program", COMMANDS)
def test_help_says_what_a_command_does_and_fits_80_columns(program, capsys):
    lines = help_of(COMMANDS[program], capsys).splitlines()
    assert lines[0].startswith(f"usage: {program}")
    # tyro leaves it to the terminal to wrap the usage.
    assert max(map(len, lines[1:])) <= COLUMNS
    about = next(line for line in lines[1:] if line and not line.startswith(" "))
    assert re.match(r"[A-Z].{20}", about)
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("program", COMMANDS)
def test_help_names_every_option_with_its_default(program, capsys):
    command = COMMANDS[program]
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", help_of(command, capsys)).split())
    assert command.options
    for option in command.options:
        if option.name.startswith("--"):
            assert f" {option.name} " in words
        if option.default:
            assert f"(default: {option.default})" in words
        # argparse also breaks lines after a hyphen.
        assert option.meaning.replace("- ", "-") in words.replace("- ", "-")


@pytest.mark.parametrize("program", COMMANDS)
def test_a_command_has_an_example_that_it_can_read(program, capsys):
    command = COMMANDS[program]
    typed = find_examples(command.about)
    assert typed, "its docstring has no Example:"
    assert all(
        line in " ".join(help_of(command, capsys).replace("\\\n", " ").split()) for line in typed
    )
    for line in typed:
        assert line.startswith(program)
        assert read(line) is not None


def test_an_example_that_cannot_be_read_is_found():
    with pytest.raises(SystemExit):
        read("python jobs/teachers.py --recipe demo_mn")


def test_the_reference_is_fresh():
    assert FILE.read_text() == render_reference(), (
        "docs/reference.md is not fresh: run `make reference`"
    )


def test_the_reference_has_a_section_a_command_with_every_option_of_it():
    sections = render_reference().split("\n## ")[1:]
    assert [section.partition("`\n")[0] for section in sections] == [
        f"`{name}" for name in COMMANDS
    ]
    for section, command in zip(sections, COMMANDS.values(), strict=True):
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert len(rows) == len(command.options)


def test_an_option_without_a_docstring_is_refused():
    with pytest.raises(ValueError, match="Silent: no docstring below number"):
        describe_options(Silent)
