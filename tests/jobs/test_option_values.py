"""A command refuses the values that it cannot use, in one line, before it does anything else."""

import shlex
import types
import typing
from dataclasses import fields, replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from command_lines import COMMANDS as ALL
from command_lines import read

from students import classify
from students.ways import WAYS, check_way
from terminal import find_examples, parse_options
from terminal.options import find_fault_of_options
from terminal.values import (
    LARGEST_SEED,
    Address,
    AnyPath,
    Check,
    File,
    Folder,
    Name,
    NewFile,
    NewFolder,
    NewName,
    Pattern,
    Reference,
    Root,
    find_fault_of_path,
)

COMMANDS = {command.program: command for command in ALL if command.kind is not None}
NUMBERS = {int: (-1, 2**63, 10**400), float: (nan, inf, -inf, -1.0, 1e308)}
NO_TEXT = ("", " ", "a\0b", "\ud800")
NO_NAMES = ("../x", "a/b", "a b", "a\nb", ".", "x" * 300, "a\u2028b")
HERE = Path(__file__)
NO_PATHS = {
    Folder: (HERE, HERE / "x", Path("x" * 300), Path("~nobody-at-all/x")),
    NewFolder: (HERE, HERE / "x", Path("x" * 300)),
    File: (HERE.parent, HERE / "x"),
    NewFile: (HERE.parent, HERE / "x", Path("x" * 300)),
    AnyPath: (HERE / "x",),
}
NO_ADDRESSES = (str(HERE), str(HERE / "x"), "gs://bucket/x", "s3:///x", "s3://", "://x")


def list_leaves(hint, *checks):
    """Return the types of the single values that an option takes, with the checks around them."""
    inside = typing.get_args(hint)
    match typing.get_origin(hint):
        case typing.Annotated:
            own = [each for each in hint.__metadata__ if isinstance(each, Check)]
            return list_leaves(inside[0], *checks, *own)
        case typing.Union | types.UnionType:
            return [leaf for each in inside for leaf in list_leaves(each, *checks)]
        case kind if kind is tuple:
            return list_leaves(inside[0], *checks)
    return [(hint, checks)]


def list_hints(kind):
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def find_checks(hint):
    return {check for _, checks in list_leaves(hint) for check in checks}


def name_checks(*kinds):
    return set().union(*map(find_checks, kinds))


def list_bad_values(hint):
    """Return values of the right type that no option of this type may accept."""
    checks = find_checks(hint)
    for leaf, _ in list_leaves(hint):
        yield from NUMBERS.get(leaf, ())
    if checks & name_checks(Name, NewName, Reference):
        yield from NO_NAMES
    if checks & name_checks(Pattern):
        yield from ("../x", "a b", "a\nb", "x" * 300)
    if checks & name_checks(Address, Root):
        yield from NO_ADDRESSES
    for kind, values in NO_PATHS.items():
        if checks & name_checks(kind):
            yield from values


def is_tuple(hint):
    if typing.get_origin(hint) in (typing.Union, types.UnionType, typing.Annotated):
        return any(is_tuple(each) for each in typing.get_args(hint))
    return typing.get_origin(hint) is tuple


@pytest.mark.parametrize("program", COMMANDS)
def test_every_option_with_a_value_says_which_values_it_takes(program):
    unchecked = [
        name
        for name, hint in list_hints(COMMANDS[program].kind).items()
        for leaf, checks in list_leaves(hint)
        if leaf in (int, float, str, Path) and not checks
    ]
    assert not unchecked


def test_every_number_of_a_command_for_devices_has_its_range():
    numbers = [
        each for each in classify.make_parser()._actions if each.dest in ("sample_rate", "channels")
    ]
    assert len(numbers) == 2
    for action in numbers:
        for word in ("0", "-1", "1.5", "nan", "", str(10**400), "1000000000"):
            with pytest.raises(SystemExit) as ended:
                classify.make_parser().parse_args(
                    ["--model", "m", "-", f"{action.option_strings[0]}={word}"]
                )
            assert ended.value.code == 2


@pytest.mark.parametrize("program", COMMANDS)
def test_no_option_accepts_a_value_out_of_its_range(program):
    command = COMMANDS[program]
    options: Any = read(find_examples(command.about)[0])
    assert find_fault_of_options(options) is None
    for name, hint in list_hints(command.kind).items():
        for value in list_bad_values(hint):
            changed = replace(options, **{name: (value,) if is_tuple(hint) else value})
            fault = find_fault_of_options(changed)
            assert fault is not None, (name, value)
            assert fault.startswith((f"--{name.replace('_', '-')} ", f"{name.upper()} "))
            assert "expected" in fault
            assert fault.isprintable()
            assert len(fault) < 600


@pytest.mark.parametrize("program", COMMANDS)
def test_what_is_no_value_at_all_is_one_line_and_exit_code_2(
    program, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    command = COMMANDS[program]
    typed = shlex.split(find_examples(command.about)[0].removeprefix(program))
    for name, hint in list_hints(command.kind).items():
        kinds = {leaf for leaf, _ in list_leaves(hint)}
        option = f"--{name.replace('_', '-')}"
        if option in typed or kinds <= {bool}:
            continue
        for word in NO_TEXT:
            with pytest.raises(SystemExit) as ended:
                parse_options(command.kind, program, command.about, [*typed, option, word])
            error = capsys.readouterr().err
            assert ended.value.code == 2
            assert error.startswith(f"{program}: ")
            assert error.count("\n") == 1
            assert option in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("jobs/teachers.py --gpus-per-run nan", "--gpus-per-run nan: expected 0, a share of a GPU"),
        ("jobs/teachers.py --gpus-per-run 1.5", "--gpus-per-run 1.5: expected 0, a share of a GPU"),
        ("jobs/teachers.py --seeds 9223372036854775808", "to 9,223,372,036,854,775,807"),
        ("jobs/teachers.py --seeds 0 0", "expected each value once, and 0 is repeated"),
        ("jobs/teachers.py --splits 7", "--splits 7: expected one of 5, 10, 25, 50, 100, all"),
        ("jobs/teachers.py --splits 5,5", "--splits"),
        ("jobs/teachers.py --length pad:1e12", "--length pad:1e12: expected native, crop:SECONDS"),
        ("jobs/teachers.py --pool rest", "--pool rest: expected CORPUS:ROOT: the logits of all"),
        ("jobs/teachers.py --pool x:/y", "--pool x:/y: expected rest, unlabelled or CORPUS:ROOT"),
        ("jobs/teachers.py --length cut:2", "--length cut:2: expected native, crop:SECONDS"),
        ("jobs/teachers.py --budget nan", "--budget nan: expected a number above 0"),
        ("jobs/teachers.py --recipes demo_pasts", "no teacher recipe demo_pasts; nearest: demo_p"),
        ("jobs/teachers.py --machine abacus", "has no machine abacus; it has laptop"),
        ("jobs/teachers.py --store=", "--store '': expected a value"),
        ("jobs/students.py --recipes isotropc", "no student recipe isotropc; nearest: isotropic"),
        ("jobs/students.py --ways mixup=1e308", "1e308: expected a number above 0, at most 1,000"),
        ("jobs/students.py --ways mixupp", "no such way to learn; there are: mixup"),
        ("jobs/search.py --split 25 --name ../../x", "--name ../../x: expected letters, digits"),
        ("jobs/ensemble.py --average votes", "--average votes: expected logits or probabilities"),
        (
            "jobs/submission.py --students a --meta m --label Doe_task1_1",
            "--label Doe_task1_1: expected <Lastname>_<INSTITUTE>",
        ),
    ],
)
def test_a_refused_value_is_named_with_what_was_expected(line, message, capsys):
    with pytest.raises(SystemExit) as ended:
        read(f"python {line}")
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_largest_values_are_accepted():
    options = read(f"python jobs/teachers.py --seeds 0 {LARGEST_SEED} --gpus-per-run 0.0001")
    assert find_fault_of_options(options) is None


def test_every_way_that_takes_a_number_says_which():
    for word in WAYS:
        for number in (nan, inf, -1, 1e308, 10**400):
            with pytest.raises(ValueError, match=f"'{word}="):
                check_way(f"{word}={number}")


def test_a_place_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    # Root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    for path in (tmp_path / "x", tmp_path / "x" / "y"):
        fault = find_fault_of_path(path, is_folder=True, is_written=True)
        assert fault == f"expected a place to write to, and you may not write to {tmp_path}"
        assert find_fault_of_path(path, is_folder=True) is None
    assert find_fault_of_path(tmp_path, is_folder=False, is_written=True) is not None


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--max-ram", "16K"], "--max-ram 16K: expected a whole number."),
        (["--max-bytes", "1e3"], "--max-bytes 1e3: expected a whole number."),
        (["--budget", "much"], "--budget much: expected a number."),
    ],
)
def test_a_word_for_a_number_is_refused_as_other_values_are(words, fault, capsys):
    command = COMMANDS["python jobs/students.py"]
    with pytest.raises(SystemExit):
        parse_options(command.kind, command.program, "", words)
    assert fault in capsys.readouterr().err
