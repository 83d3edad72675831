"""python -m logit_store."""

import contextlib
import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from logit_store import LogitKey, LogitStore
from logit_store.__main__ import overview, picture

PROJECT = Path(__file__).resolve().parents[2]

StartPython = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def filled(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    store.write(LogitKey("tau", 25, "mn10_as_dir_fms-3f9c21ab04de"), logits_NK, {"kind": "teacher"})
    store.write(LogitKey("tau", 5, "other-000000000000"), logits_NK, {"recipe": "a\tb"})
    return store


@pytest.fixture
def command(start_python: StartPython) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        process = start_python("-m", "logit_store", *arguments)
        output, error = process.communicate(timeout=120)
        return process.returncode, output, error

    return run


def test_ls_is_a_table_of_tabs_when_piped(
    filled: LogitStore, command: Callable[..., tuple[int, str, str]]
) -> None:
    code, output, error = command("ls", "--store", filled.address)
    assert (code, error) == (0, "")
    header, *rows = [line.split("\t") for line in output.splitlines()]
    assert header == filled.members().column_names
    assert [row[0] for row in rows] == ["mn10_as_dir_fms-3f9c21ab04de", "other-000000000000"]
    assert all(len(row) == len(header) for row in rows)
    # Nothing is rounded for programs.
    expected = filled.members()["log_loss_select"].to_pylist()
    assert float(rows[0][header.index("log_loss_select")]) == expected[0]
    code, output, _ = command("ls", "--store", filled.address, "--corpus", "tau", "--split", "5")
    assert code == 0
    assert [line.split("\t")[0] for line in output.splitlines()] == ["member", "other-000000000000"]


def test_sql_answers(filled: LogitStore, command: Callable[..., tuple[int, str, str]]) -> None:
    query = "select split, count(*) as n from predictions group by split order by split"
    code, output, error = command("sql", "--store", filled.address, query)
    assert (code, output, error) == (0, "split\tn\n5\t60\n25\t60\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected_code", "words"),
    [
        (["ls", "--store", "nowhere"], 1, "no store at nowhere"),
        (["ls", "--store", "s3://bucket/x"], 1, "S3 is not supported yet"),
        (["ls", "--store", "STORE", "--corpus", "cochl"], 1, "no clips of corpus 'cochl'"),
        (["sql", "--store", "STORE", "select * from nothing"], 1, "nothing does not exist"),
        (["ls"], 2, "--store"),
        (["ls", "--store", "STORE", "--split", "7"], 2, "'7'"),
        (["lss"], 2, "lss"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(
    filled: LogitStore,
    command: Callable[..., tuple[int, str, str]],
    arguments: list[str],
    expected_code: int,
    words: str,
) -> None:
    arguments = [filled.address if each == "STORE" else each for each in arguments]
    code, output, error = command(*arguments)
    assert (code, output) == (expected_code, "")
    assert error.count("\n") == 1
    assert words in error
    assert "Traceback" not in error


def test_help_goes_to_standard_output(command: Callable[..., tuple[int, str, str]]) -> None:
    code, output, error = command("ls", "--help")
    assert (code, error) == (0, "")
    assert "--split" in output


def test_the_store_and_its_command_do_without_torch_and_ray(start_python: StartPython) -> None:
    script = "import sys, logit_store.__main__; print({'torch', 'ray'} & {*sys.modules})"
    output, error = start_python("-c", script).communicate(timeout=120)
    assert (output, error) == ("set()\n", "")


def test_ls_is_a_table_of_80_columns_in_a_terminal(filled: LogitStore) -> None:
    text = io.StringIO()
    now = datetime.now(UTC) + timedelta(hours=3)
    Console(file=text, width=80).print(overview(filled.members(), now))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "mn10_as_dir_fms-3f9c21ab04de" in text.getvalue()
    assert "3 h" in text.getvalue()
    assert "…" not in text.getvalue()


def test_an_answer_of_sql_is_not_cut_off_in_80_columns(filled: LogitStore) -> None:
    answer = filled.sql("select member, clip_id, scene, log_loss, city from predictions limit 3")
    text = io.StringIO()
    Console(file=text, width=80).print(picture(answer))
    assert max(map(len, text.getvalue().splitlines())) <= 80
    assert "…" not in text.getvalue()


def test_a_terminal_gets_the_table_for_people(filled: LogitStore) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "logit_store", "ls", "--store", filled.address]
    # rich takes the width from here.
    environment = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=theirs) as process:
        os.close(theirs)
        output = b""
        # Linux answers a read behind the end of a terminal with an error.
        with contextlib.suppress(OSError):
            while block := os.read(ours, 4096):
                output += block
    os.close(ours)
    assert process.returncode == 0
    assert b"\t" not in output
    assert max(len(line.rstrip()) for line in output.decode().splitlines()) <= 80
    assert b"mn10_as_dir_fms-3f9c21ab04de" in output
