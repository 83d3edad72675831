import pytest

from students import ram
from students.complexity.__main__ import main
from students.complexity.student import measure_student
from students.complexity.table2 import find_misprints, measure_table2
from students.errors import NoPlan

# The report's figures, with the slips that the command notes put right.
TABLE2 = {
    "Baseline24": ("61,148", "29,419,156", "98.06 %", "fp16", "122,296", "95.54 %"),
    "Isotropic": ("47,946", "29,747,914", "99.16 %", "fp16", "95,892", "74.92 %"),
    "Isotropic v2": ("86,666", "21,270,026", "70.90 %", "int8", "86,666", "67.71 %"),
    "Isotropic v3": ("119,690", "29,463,050", "98.21 %", "int8", "119,690", "93.51 %"),
    "Recursiv 3x3": ("47,946", "29,747,914", "99.16 %", "fp16", "95,892", "74.92 %"),
    "Recursiv v2": ("86,666", "21,270,026", "70.90 %", "int8", "86,666", "67.71 %"),
    "Recursiv v3": ("119,690", "29,463,050", "98.21 %", "int8", "119,690", "93.51 %"),
    "RSC": ("47,946", "29,747,914", "99.16 %", "fp16", "95,892", "74.92 %"),
}


@pytest.fixture(autouse=True)
def planned(monkeypatch):
    """Plans that take no time; the students that were planned."""
    asked = []

    def plan(model, arguments, *, input_shape, n_classes):
        asked.append((model, input_shape, n_classes))
        if model == "bcbl16":
            raise NoPlan("operator Sin is unknown")
        return 123_456

    monkeypatch.setattr(ram, "measure_architecture_ram", plan)
    return asked


def lines(capsys):
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_table_2_is_reproduced_to_the_last_digit(capsys):
    assert main(["table2"]) == 0
    printed = {row[0]: tuple(row[1:7]) for row in lines(capsys)[1:] if len(row) > 1}
    assert printed == TABLE2


def test_misprints_show_the_printed_and_the_right_value(capsys):
    main(["table2"])
    notes = "\n".join(row[0] for row in lines(capsys) if row[0].startswith("# "))
    assert notes == "\n".join(f"# {slip}" for slip in find_misprints(measure_table2()))
    assert (
        "printed 72.06 % of the bytes and 97.57 % of the MACs; right 95.54 % and 98.06 %" in notes
    )
    assert "filters: not printed; right 128" in notes
    assert "printed 4x4 and 6x4; right 4 and 6" in notes
    assert "right 3 (4 would give 125,066 parameters and 30,839,306 MACs, over the limit)" in notes


def test_students_are_printed_by_name_with_all_their_arguments(capsys):
    assert main(["bcbl8", "recursive_2x3"]) == 0
    _, first, second = lines(capsys)
    assert first[:7] == ["bcbl8", "5,722", "2,487,240", "8.29 %", "fp32", "22,888", "17.88 %"]
    assert second[-1] == "filters=128 depth=2 columns=3 kernel=3 patch=8"


def test_the_ram_is_that_of_the_plan_or_else_the_reason_is_said(capsys, planned):
    assert main(["cp_mobile_2023", "bcbl16"]) == 0
    header, first, second, note = lines(capsys)
    assert [header[7], first[7], second[7]] == ["RAM", "123,456", "-"]
    assert note == ["# bcbl16: operator Sin is unknown"]
    assert planned[0] == ("cp_mobile_2023", (1, 1, 256, 64), 10)


def test_a_list_of_all_students_plans_none(capsys, planned):
    assert main([]) == 0
    assert {row[7] for row in lines(capsys)[1:] if len(row) > 7} == {"-"}
    assert planned == []


def test_table_2_plans_each_row_and_no_misprint(planned):
    assert {row.ram for row in measure_table2()} == {123_456}
    assert len(planned) == len(TABLE2)


def test_a_precision_changes_all_bytes_but_those_of_the_plan(capsys):
    main(["isotropic", "--precision", "int8"])
    row = lines(capsys)[1]
    assert row[4:9] == ["int8", "47,946", "37.46 %", "123,456", "143,936"]


def test_arguments_override_the_catalogue():
    assert measure_student("dcase24_baseline", base_channels=24).complexity.params == 35_062


def test_an_unknown_student_ends_in_one_line_and_exit_code_1(capsys):
    assert main(["isotropik"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("python -m students.complexity: no student isotropik; there are: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("argument", ["--bits", "--precision=int4"])
def test_unreadable_options_end_in_exit_code_2(argument, capsys):
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert ended.value.code == 2
