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
from logit_store.tables import draw_members, draw_rows, draw_scores

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


def test_ls_prints_tabs_in_a_pipe(
    filled: LogitStore, command: Callable[..., tuple[int, str, str]]
) -> None:
    code, output, error = command("ls", "--store", filled.address)
    assert (code, error) == (0, "")
    header, *rows = [line.split("\t") for line in output.splitlines()]
    assert header == filled.members().column_names
    assert [row[0] for row in rows] == ["mn10_as_dir_fms-3f9c21ab04de", "other-000000000000"]
    assert all(len(row) == len(header) for row in rows)
    # Numbers for programs are not rounded.
    expected = filled.members()["log_loss_select"].to_pylist()
    assert float(rows[0][header.index("log_loss_select")]) == expected[0]


def test_ls_lists_one_split(filled: LogitStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--store", filled.address, "--corpus", "tau", "--split", "5"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("\t")[0] for row in rows] == ["member", "other-000000000000"]


def test_sql_prints_the_rows(filled: LogitStore, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select split, count(*) as n from predictions group by split order by split"
    assert main(["sql", "--store", filled.address, query]) == 0
    assert capsys.readouterr() == ("split\tn\n5\t60\n25\t60\n", "")


def test_an_error_ends_the_process_with_its_code(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    code, output, error = command("ls", "--store", "nowhere")
    assert (code, output) == (1, "")
    assert error.startswith("python -m logit_store: no store at nowhere")


@pytest.mark.parametrize(
    ("arguments", "expected_code", "words"),
    [
        (["ls", "--store", "nowhere"], 1, "no store at nowhere"),
        (["ls", "--store", "gs://bucket/x"], 2, "gs://bucket/x: expected a folder, or s3://"),
        (["show", "nobody", "--store", "STORE"], 1, "no member 'nobody'"),
        (["show", "", "--store", "STORE"], 2, "argument '': expected a value"),
        (["ls", "--store", "STORE", "--json", "--csv"], 2, "--json and --csv"),
        (["ls", "--store", "STORE", "--corpus", "cochl"], 1, "no clips of corpus 'cochl'"),
        (["sql", "--store", "STORE", "select * from nothing"], 1, "nothing does not exist"),
        (["sql", "--store", "STORE", "select timestamp 'infinity'"], 1, "cast it to VARCHAR"),
        (
            ["sql", "--store", "STORE", "--json", "select 1 as a, 2 as a"],
            1,
            "columns have one name",
        ),
        (["ls"], 2, "--store"),
        (["ls", "--store", "STORE", "--split", "7"], 2, "--split 7: expected one of 5, 10"),
        (["lss"], 2, "lss"),
    ],
)
def test_an_error_is_one_line(
    filled: LogitStore,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected_code: int,
    words: str,
) -> None:
    arguments = [filled.address if each == "STORE" else each for each in arguments]
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    output, error = capsys.readouterr()
    assert (code, output) == (expected_code, "")
    assert error.count("\n") == 1
    assert words in error
    assert "Traceback" not in error


REFUSED = """
import sys
from logit_store.__main__ import main
store, folder, *names = sys.argv[1:]
commands = {
    "ls": [], "show": ["other"], "sql": ["select count(*) from logits"], "verify": [], "gc": [],
    "export": ["--corpus", "tau", "--form", "npz", "--to", folder],
}
for name in names:
    print(name, main([name, *commands[name], "--store", store]), flush=True)
"""


@pytest.mark.parametrize(
    ("unreadable", "commands"),
    [
        ("logits", ("ls", "show", "sql", "verify", "gc", "export")),
        ("logits/v1/*/*/member=other*/*/logits.parquet", ("sql",)),
    ],
)
def test_denied_access_is_one_line_of_each_command(
    filled: LogitStore, tmp_path: Path, unreadable: str, commands: tuple[str, ...]
) -> None:
    denied = next(Path(filled.address).glob(unreadable))
    denied.chmod(0)
    # Root may do anything unless it gives up its capabilities.
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if not os.geteuid() else []
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root cannot give up its capabilities here")
    done = subprocess.run(
        [*prefix, sys.executable, "-c", REFUSED, filled.address, str(tmp_path), *commands],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    denied.chmod(0o700)
    codes = dict(line.split() for line in done.stdout.splitlines())
    lines = done.stderr.splitlines()
    assert codes == dict.fromkeys(commands, "1")
    assert len(lines) == len(codes)
    for line in lines:
        assert line.startswith("python -m logit_store: ")
        assert str(denied) in line
        assert "Permission denied" in line


def test_output_to_a_full_disk_is_one_line_and_exit_code_1(
    filled: LogitStore,
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "logit_store", "ls", "--store", filled.address],
            cwd=PROJECT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "python -m logit_store: No space left on device: free some space there, or name another "
        "place (for caches: TUTTI_CACHE)\n"
    )


def test_json_and_csv_hold_the_same_as_the_table(
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


def test_json_has_only_numbers_of_json(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select 'nan'::double as x, [1.5, 'inf'::double] as y"
    assert main(["sql", query, "--store", filled.address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"x": None, "y": [1.5, None]}]


def test_show_prints_scores_files_and_record_of_a_member_by_the_beginning_of_its_name(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    name, key = "mn10_as_dir_fms-3f9c21ab04de", filled.keys("tau", 25)[0]
    filled.objects.write(f"teachers/v1/{name}/weights.safetensors", b"abc")
    assert main(["show", "mn10", "--store", filled.address, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["member"], shown["record"]) == (name, {"kind": "teacher"})
    assert [each["logits_hash"] for each in shown["logits"]] == [
        filled.read_footer(key).logits_hash
    ]
    assert [each["bytes"] for each in shown["files"]][1:] == [3]
    assert shown["files"][0]["name"].startswith("logits/v1/corpus=tau/split=25/")
    assert main(["show", name, "--store", filled.address, "--csv"]) == 0
    figures = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(f["fold"], f["recording_device"], float(f["log_loss"])) for f in figures} == {
        (f.fold, f.recording_device or "", f.log_loss) for f in filled.read_footer(key).scores
    }


def test_a_whole_name_stands_for_one_member_even_if_others_begin_with_it(
    filled: LogitStore, logits_NK: np.ndarray
) -> None:
    longer = LogitKey("tau", 5, "other_int8-000000000000")
    filled.write(longer, logits_NK, {"kind": "student"})
    assert show.find_member_keys(filled, "other") == [LogitKey("tau", 5, "other-000000000000")]
    assert show.find_member_keys(filled, "other_") == [longer]
    with pytest.raises(MissingMember, match="other-000000000000, other_int8-000000000000"):
        show.find_member_keys(filled, "oth")


def test_a_member_is_shown_in_80_columns(filled: LogitStore) -> None:
    text = io.StringIO()
    figures = show.tabulate_scores(filled, show.find_member_keys(filled, "mn10"))
    Console(file=text, width=80).print(draw_scores(figures))
    assert max(map(len, text.getvalue().splitlines())) <= 80
    assert "s1" in text.getvalue()


def test_verify_prints_the_problems_and_exits_with_1(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--store", filled.address]) == 0
    assert capsys.readouterr() == ("file\tproblem\n", "all is as it was written\n")
    stray = Path(filled.address) / "logits" / "notes.txt"
    stray.write_text("x")
    assert main(["verify", "--store", filled.address]) == 1
    _, line = capsys.readouterr().out.splitlines()
    assert line.split("\t")[0] == str(stray)


def test_gc_says_beside_the_header_that_there_is_nothing_to_remove(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gc", "--store", filled.address]) == 0
    words = "0 files, freed 0 bytes (0 KiB)"
    assert capsys.readouterr() == ("file\twhy\tbytes\n", f"{words}\n")


def test_verify_prints_names_that_are_not_utf_8(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(filled.address) / "ensembles/v1/corpus=tau/split=25"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / os.fsdecode(b"best-\xff.json")).write_text("{}")
    assert main(["verify", "--store", filled.address]) == 1
    assert "best-\\udcff.json\t" in capsys.readouterr().out
    assert main(["sql", "from ensembles", "--store", filled.address]) == 0


def test_gc_dry_run_shows_what_gc_removes(
    filled: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "teachers/v1/other-000000000000/checkpoint.pt"
    filled.objects.write(name, b"12345")
    for dry_run in (["--dry-run"], []):
        assert name in filled.objects
        assert main(["gc", "--store", filled.address, "--json", *dry_run]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["dry_run"], told["bytes"]) == (bool(dry_run), 5)
        assert [each["file"] for each in told["files"]] == [name]
    assert name not in filled.objects


def test_help_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["ls", "--help"])
    output, error = capsys.readouterr()
    assert error == ""
    assert "--split" in output


def test_importing_the_package_imports_neither_numpy_nor_pyarrow(start_python: StartPython) -> None:
    script = "import sys, logit_store; print({'numpy', 'pyarrow'} & {*sys.modules})"
    output, error = start_python("-c", script).communicate(timeout=120)
    assert (output, error) == ("set()\n", "")


LS = """
import sys
from logit_store.__main__ import main
main(["ls", "--store", sys.argv[1], "--json"])
heavy = {"botocore", "duckdb", "h5py", "pandas", "ray", "s3fs", "scipy", "torch"}
sys.exit(str(heavy & {*sys.modules}))
"""


def test_ls_imports_only_what_it_needs(filled: LogitStore, start_python: StartPython) -> None:
    # The first listing writes the catalogue.
    filled.members()
    output, error = start_python("-c", LS, filled.address).communicate(timeout=120)
    assert len(json.loads(output)) == 2
    assert error == "set()\n"


def test_ls_is_a_table_of_80_columns_in_a_terminal(filled: LogitStore) -> None:
    text = io.StringIO()
    now = datetime.now(UTC) + timedelta(hours=3)
    Console(file=text, width=80).print(draw_members(filled.members(), now))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "mn10_as_dir_fms-3f9c21ab04de" in text.getvalue()
    assert "3 h" in text.getvalue()
    assert "…" not in text.getvalue()


def test_rows_of_sql_are_not_cut_off_in_80_columns(filled: LogitStore) -> None:
    answer = filled.sql("select member, clip_id, scene, log_loss, city from predictions limit 3")
    text = io.StringIO()
    Console(file=text, width=80).print(draw_rows(answer))
    assert max(map(len, text.getvalue().splitlines())) <= 80
    assert "…" not in text.getvalue()


def test_ls_prints_a_table_and_the_next_command_in_a_terminal(filled: LogitStore) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "logit_store", "ls", "--store", filled.address]
    # rich reads the width from here.
    environment = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=theirs) as process:
        os.close(theirs)
        output = b""
        # Reading after the end of a terminal is an error on Linux.
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
