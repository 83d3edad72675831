"""python -m logit_store."""

import contextlib
import csv
import io
import json
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

from logit_store import LogitKey, LogitStore, MissingMember, show
from logit_store.__main__ import main
from logit_store.tables import overview, picture, worth

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
        (["ls", "--store", "gs://bucket/x"], 1, "gs://bucket/x"),
        (["show", "nobody", "--store", "STORE"], 1, "no member 'nobody'"),
        (["show", "", "--store", "STORE"], 1, "several begin so: mn10_as_dir_fms-3f9c21ab04de, o"),
        (["ls", "--store", "STORE", "--json", "--csv"], 2, "--json and --csv"),
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


def test_json_and_csv_say_the_same_as_the_table(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ls", "--store", filled.address, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["ls", "--store", filled.address, "--csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    expected = filled.members().to_pylist()
    assert [
        row | {"written": each["written"]} for row, each in zip(rows, expected, strict=True)
    ] == expected
    assert [line["recipe"] for line in lines] == ["", "a\tb"]
    assert [float(line["log_loss_select"] or 0) for line in lines] == [
        row["log_loss_select"] or 0 for row in rows
    ]


def test_json_has_no_number_that_json_does_not_know(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select 'nan'::double as x, [1.5, 'inf'::double] as y"
    assert main(["sql", query, "--store", filled.address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"x": None, "y": [1.5, None]}]


def test_show_tells_figures_files_and_record_of_the_member_that_begins_so(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    name, key = "mn10_as_dir_fms-3f9c21ab04de", filled.keys("tau", 25)[0]
    filled.write_object(f"teachers/v1/{name}/weights.safetensors", b"abc")
    assert main(["show", "mn10", "--store", filled.address, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["member"], shown["record"]) == (name, {"kind": "teacher"})
    assert [each["logits_hash"] for each in shown["logits"]] == [filled.footer(key).logits_hash]
    assert [each["bytes"] for each in shown["files"]][1:] == [3]
    assert shown["files"][0]["name"].startswith("logits/v1/corpus=tau/split=25/")
    assert main(["show", name, "--store", filled.address, "--csv"]) == 0
    figures = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(f["fold"], f["recording_device"], float(f["log_loss"])) for f in figures} == {
        (f.fold, f.recording_device or "", f.log_loss) for f in filled.footer(key).figures
    }


def test_a_whole_name_means_one_member_though_others_begin_so(
    filled: LogitStore, logits_NK: np.ndarray
) -> None:
    longer = LogitKey("tau", 5, "other_int8-000000000000")
    filled.write(longer, logits_NK, {"kind": "student"})
    assert show.keys_of(filled, "other") == [LogitKey("tau", 5, "other-000000000000")]
    assert show.keys_of(filled, "other_") == [longer]
    with pytest.raises(MissingMember, match="other-000000000000, other_int8-000000000000"):
        show.keys_of(filled, "oth")


def test_a_member_is_shown_in_80_columns(filled: LogitStore) -> None:
    text = io.StringIO()
    figures = show.figures(filled, show.keys_of(filled, "mn10"))
    Console(file=text, width=80).print(worth(figures))
    assert max(map(len, text.getvalue().splitlines())) <= 80
    assert "s1" in text.getvalue()


def test_verify_names_what_is_wrong_and_ends_with_1(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--store", filled.address]) == 0
    assert capsys.readouterr() == ("file\tproblem\n", "")
    stray = Path(filled.address) / "logits" / "notes.txt"
    stray.write_text("x")
    assert main(["verify", "--store", filled.address]) == 1
    _, line = capsys.readouterr().out.splitlines()
    assert line.split("\t")[0] == str(stray)


def test_gc_shows_with_dry_run_what_it_removes_without(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "teachers/v1/other-000000000000/checkpoint.pt"
    filled.write_object(name, b"12345")
    for dry_run in (["--dry-run"], []):
        assert filled.has_object(name)
        assert main(["gc", "--store", filled.address, "--json", *dry_run]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["dry_run"], told["bytes"]) == (bool(dry_run), 5)
        assert [each["file"] for each in told["files"]] == [name]
    assert not filled.has_object(name)


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
    shown, _, following = output.decode().partition("next: ")
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80
    name = "mn10_as_dir_fms-3f9c21ab04de"
    assert following.rstrip() == f"python -m logit_store show {name} --store {filled.address}"
    assert b"mn10_as_dir_fms-3f9c21ab04de" in output
