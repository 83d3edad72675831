"""Each rule of a submission, broken alone."""

from collections.abc import Callable
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_LZMA, ZipFile

import dcase_package
import pytest
from dcase_package import LABEL, N_CLIPS, as_yaml, zipped

from report.dcase.__main__ import PROGRAM, main
from report.dcase.unpack import describe_damage
from report.dcase.validate import check_package
from terminal import run_program

FOLDER = f"task1/{LABEL}"
OUTPUT = f"{FOLDER}/{LABEL}.output.split_25.csv"
META = f"{FOLDER}/{LABEL}.meta.yaml"
SPLIT_25 = "results.development_dataset.split_25"


@pytest.fixture
def files():
    return dcase_package.files()


def problems(files):
    return [str(problem) for problem in check_package(zipped(files), N_CLIPS)]


def only_problem(files):
    found = problems(files)
    assert len(found) == 1, found
    return found[0]


def test_a_package_that_follows_the_rules_has_no_problems(files):
    assert problems(files) == []


# The package.


def test_a_file_that_is_not_a_zip_is_refused():
    (problem,) = check_package(b"PDF", N_CLIPS)
    assert str(problem) == "package: File is not a zip file, expected a complete ZIP file"


def test_a_damaged_zip_is_refused(files):
    package = bytearray(zipped(files))
    start = package.index(OUTPUT.encode()) + len(OUTPUT)
    package[start + 20] ^= 0xFF
    assert problems_of_bytes(package).endswith("expected a complete ZIP file")


@pytest.mark.parametrize("method", [ZIP_BZIP2, ZIP_LZMA])
def test_a_damaged_zip_of_another_method_is_refused(files, method):
    package = bytearray(zipped(files, method))
    start = package.index(OUTPUT.encode()) + len(OUTPUT)
    package[start + 20 : start + 60] = bytes(40)
    assert problems_of_bytes(package).endswith("expected a complete ZIP file")


def test_a_fault_of_the_machine_is_no_damage_of_the_zip():
    with pytest.raises(OSError, match="No space left"):
        describe_damage("package", OSError(28, "No space left"))


def problems_of_bytes(package):
    (problem,) = check_package(bytes(package), N_CLIPS)
    return str(problem)


def test_files_outside_the_folder_of_a_system_are_refused(files):
    flat = {name.rpartition("/")[2]: content for name, content in files.items()}
    assert "expected folders task1/<Lastname>_<INSTITUTE>_task1_<1...4>/" in only_problem(flat)


@pytest.mark.parametrize(
    "label",
    [
        "Doe_task1_1",
        "Doe_UNI_Dept_task1_1",
        "Doe_UNI_task2_1",
        "Doe_UNI_task1_0",
        "Doe_UNI_task1_5",
        "Doe__task1_1",
    ],
)
def test_a_label_needs_exactly_four_parts_and_a_number_up_to_four(files, label):
    renamed = {
        name.replace(LABEL, label): content.replace(LABEL, label) for name, content in files.items()
    }
    assert only_problem(renamed) == (
        f"task1/{label}: label {label!r}, expected <Lastname>_<INSTITUTE>_task1_<1...4>"
    )


def test_each_system_of_a_package_is_checked(files):
    second = "Doe_UNI_task1_2"
    both = files | {
        name.replace(LABEL, second): content.replace(LABEL, second)
        for name, content in files.items()
    }
    assert problems(both) == []
    del both[OUTPUT.replace(LABEL, second)]
    assert only_problem(both).startswith(f"{OUTPUT.replace(LABEL, second)}: missing")


@pytest.mark.parametrize("split", [5, 10, 25, 50, 100])
def test_each_split_needs_its_output(files, split):
    missing = OUTPUT.replace("25", str(split))
    del files[missing]
    assert only_problem(files).startswith(f"{missing}: missing, expected it beside {LABEL}.meta")


def test_a_description_is_needed(files):
    del files[META]
    assert only_problem(files).startswith(f"{META}: missing")


def test_other_files_may_be_in_the_package(files):
    assert problems(files | {"task1/Doe_UNI_task1.technical_report.pdf": "%PDF"}) == []


# Predictions.


def with_output(files: dict[str, str], change: Callable[[list[str]], Any]) -> dict[str, str]:
    lines = files[OUTPUT].splitlines()
    change(lines)
    return files | {OUTPUT: "".join(f"{line}\n" for line in lines)}


def broken_line(files, number, old, new):
    def change(lines):
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new, 1)

    return only_problem(with_output(files, change))


def test_columns_may_have_any_order(files):
    columns = [line.split("\t")[::-1] for line in files[OUTPUT].splitlines()]
    files[OUTPUT] = "".join("\t".join(line) + "\n" for line in columns)
    assert problems(files) == []


def test_rows_may_have_any_order_and_any_line_ends(files):
    changed = with_output(files, lambda lines: lines.append(lines.pop(1)))
    changed[OUTPUT] = changed[OUTPUT].replace("\n", "\r\n").removesuffix("\r\n")
    assert problems(changed) == []


def test_a_folder_before_a_file_name_is_ignored(files):
    files[OUTPUT] = files[OUTPUT].replace("2.wav", "audio/2.wav")
    assert problems(files) == []


def test_a_column_with_another_name_is_refused(files):
    found = broken_line(files, 1, "metro_station", "metrostation")
    assert (
        f"{OUTPUT}, line 1: columns filename, scene_label, airport, bus, metro, metrostat" in found
    )


def test_a_repeated_column_is_refused(files):
    assert "each of these once" in broken_line(files, 1, "tram", "bus")


def test_fields_between_commas_are_refused(files):
    assert "with tabs between them" in only_problem(
        files | {OUTPUT: files[OUTPUT].replace("\t", ",")}
    )


def test_a_file_in_another_encoding_is_refused(files):
    assert "expected a text in UTF-8" in only_problem(files | {OUTPUT: b"\xff\xfe"})


def test_an_empty_file_is_refused(files):
    assert f"{OUTPUT}, line 1: columns " in only_problem(files | {OUTPUT: ""})


def test_a_row_with_a_missing_field_is_named_and_does_not_end_the_check(files):
    found = broken_line(files, 3, "\t0.01", "")
    assert found == f"{OUTPUT}, line 3: 11 fields, expected 12, with tabs between them"


def test_a_missing_row_is_refused(files):
    found = only_problem(with_output(files, lambda lines: lines.pop()))
    assert found == f"{OUTPUT}: 3 rows, expected 4, one for each clip"


def test_a_clip_with_two_rows_is_named_with_both_lines(files):
    found = broken_line(files, 4, "2.wav", "0.wav")
    assert found == f"{OUTPUT}, line 4: '0.wav' as in line 2, expected each clip once"


@pytest.mark.parametrize("name", ["4.wav", "-1.wav", "two.wav", "2.mp3", ""])
def test_a_file_name_that_is_not_a_clip_is_refused(files, name):
    found = broken_line(files, 4, "2.wav", name)
    assert found == f"{OUTPUT}, line 4: {name!r}, expected <n>.wav with n = 0 ... 3"


def test_an_unknown_scene_is_refused(files):
    found = broken_line(files, 2, "airport", "station")
    assert f"{OUTPUT}, line 2: 'station', expected a scene_label among airport, bus," in found


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "", "high", "0,5"])
def test_what_is_not_a_finite_number_is_refused(files, number):
    found = broken_line(files, 5, "0.91", number)
    assert found == f"{OUTPUT}, line 5: airport is {number!r}, expected a finite number"


def test_numbers_need_not_be_probabilities(files):
    assert problems(files | {OUTPUT: files[OUTPUT].replace("0.91", "-1.5e1")}) == []


def test_rows_that_break_the_same_rule_are_one_problem_and_counted(files):
    found = only_problem(files | {OUTPUT: files[OUTPUT].replace("0.91", "nan")})
    assert found == (f"{OUTPUT}, line 2: airport is 'nan', expected a finite number (4 such rows)")


def test_all_broken_rules_are_reported_at_once(files):
    files[OUTPUT] = files[OUTPUT].replace("0.91", "nan").replace("\tairport\t0", "\tmoon\t0")
    files[OUTPUT] = files[OUTPUT].replace("\tairport\tnan", "\tmoon\tnan", 1)
    del files[OUTPUT.replace("25", "5")]
    meta = dcase_package.meta()
    meta["system"]["complexity"]["macs"] = 40_000_000
    files[META] = as_yaml(meta)
    told = problems(files)
    assert [each.split(",")[0].split(":")[0] for each in told] == [
        OUTPUT.replace("25", "5"),
        OUTPUT,
        OUTPUT,
        META,
    ]


# The description.


def with_meta(files, change):
    meta = dcase_package.meta()
    change(meta)
    return files | {META: as_yaml(meta)}


def put(path, value):
    *way, last = path

    def change(meta):
        for key in way:
            meta = meta[key]
        meta[last] = value

    return change


def test_what_is_not_yaml_is_refused(files):
    assert f"{META}: " in only_problem(files | {META: "a: [1"})


def test_files_that_unpack_to_more_than_their_kind_needs_are_not_unpacked(files, monkeypatch):
    monkeypatch.setattr(ZipFile, "read", None)
    found = problems({name: b" " * 2**21 for name in files})
    assert f"{META}: 2,097,152 bytes, expected at most 1,048,576" in found
    assert f"{OUTPUT}: 2,097,152 bytes, expected at most 1,048,576" in found


def test_aliases_that_stand_for_billions_of_values_are_refused(files):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)]
    for text in ("\n".join(lines), "a: &a [*a]"):
        assert "stand for more than 100,000 values" in only_problem(files | {META: text})


def test_an_empty_description_is_refused_with_the_keys_that_it_needs(files):
    found = only_problem(files | {META: ""})
    assert found == f"{META}: None, expected the keys submission, system, results"


def test_the_label_must_be_that_of_the_folder(files):
    found = only_problem(with_meta(files, put(["submission", "label"], "Doe_UNI_task1_2")))
    assert found == (
        f"{META}, submission.label: 'Doe_UNI_task1_2', expected {LABEL!r}, as its files are called"
    )


@pytest.mark.parametrize("text", ["", " \n", "\x1c"])
def test_a_name_of_nothing_but_space_is_refused(files, text):
    put_in = put(["submission", "name"], text)
    assert "expected a text that is not empty" in only_problem(with_meta(files, put_in))


def test_an_abbreviation_of_eleven_characters_is_refused(files):
    put_in = put(["submission", "abbreviation"], "ElevenChars")
    assert "'ElevenChars', expected a text of at most 10" in only_problem(with_meta(files, put_in))


@pytest.mark.parametrize("corresponding", [[False, False], [True, True]])
def test_exactly_one_author_is_corresponding(files, corresponding):
    def change(meta):
        for author, flag in zip(meta["submission"]["authors"], corresponding, strict=True):
            author["corresponding"] = flag

    found = only_problem(with_meta(files, change))
    assert "exactly one of them with `corresponding: true`" in found


def every_key(document, place=()):
    for key, value in document.items():
        yield (*place, key)
        if isinstance(value, dict):
            yield from every_key(value, (*place, key))


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in every_key(dcase_package.meta())
        # Of the five splits one, and of an affiliation nothing: it is free.
        if len(path) < 3 or path[0] != "results" or path[2] == "split_25"
    ],
    ids=".".join,
)
def test_each_key_is_needed(files, path):
    def change(meta):
        for key in path[:-1]:
            meta = meta[key]
        del meta[path[-1]]

    found = only_problem(with_meta(files, change))
    assert found.startswith(f"{META}, {'.'.join(path)}: missing, expected ")


@pytest.mark.parametrize("key", ["lastname", "firstname", "email", "affiliation"])
def test_each_author_needs_name_address_and_affiliation(files, key):
    found = only_problem(with_meta(files, lambda m: m["submission"]["authors"][1].pop(key)))
    assert found.startswith(f"{META}, submission.authors[1].{key}: missing")


@pytest.mark.parametrize("key", ["name", "url", "total_audio_length"])
def test_each_external_data_set_needs_name_address_and_length(files, key):
    found = only_problem(with_meta(files, lambda m: m["system"]["external_datasets"][0].pop(key)))
    assert found.startswith(f"{META}, system.external_datasets[0].{key}: missing")


def test_there_may_be_no_external_data_sets(files):
    assert problems(with_meta(files, put(["system", "external_datasets"], []))) == []


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("macs", 30_000_001, "1 ... 30,000,000"),
        ("total_model_size", 128_001, "1 ... 128,000"),
        ("total_parameters", 0, "at least 1"),
        ("total_parameters", 47_946.5, "at least 1"),
        ("macs", "29 M", "1 ... 30,000,000"),
    ],
)
def test_the_limits_of_complexity_hold(files, key, value, expected):
    found = only_problem(with_meta(files, put(["system", "complexity", key], value)))
    assert found.startswith(f"{META}, system.complexity.{key}: {value!r}, expected a number of ")
    assert found.endswith(expected)


@pytest.mark.parametrize("value", [-0.1, 100.1, None, "50 %", float("nan"), True])
@pytest.mark.parametrize("place", ["overall", "class_wise.bus", "device_wise.s6"])
def test_an_accuracy_is_a_percentage(files, place, value):
    path = [*SPLIT_25.split("."), *place.split("."), "accuracy"]
    found = only_problem(with_meta(files, put(path, value)))
    assert found == f"{META}, {'.'.join(path)}: {value!r}, expected a percentage, 0 ... 100"


@pytest.mark.parametrize("value", [-0.1, float("inf"), "1.2"])
def test_a_log_loss_is_a_number_of_at_least_zero_or_null(files, value):
    path = [*SPLIT_25.split("."), "overall", "logloss"]
    assert "expected a number of at least 0, or null" in only_problem(
        with_meta(files, put(path, value))
    )
    assert problems(with_meta(files, put(path, 1.25))) == []


# The command.


def test_the_command_ends_with_zero_for_a_package_that_follows_the_rules(files, tmp_path, capsys):
    package = tmp_path / "mine.zip"
    package.write_bytes(zipped(files))
    assert main(["check", str(package), "--evaluation-clips", "4"]) == 0
    assert capsys.readouterr().out == f"{package}: follows the rules\n"


def test_the_command_prints_broken_rules_and_ends_with_one(files, tmp_path, capsys):
    package = tmp_path / "mine.zip"
    package.write_bytes(zipped(files))
    assert main(["check", str(package)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f"{OUTPUT}: 4 rows, expected 135,730, one for each clip"
    assert lines[-1] == f"{package}: 5 broken rules"


def test_the_command_names_a_missing_file(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        run_program(PROGRAM, lambda: main(["check", str(tmp_path / "no.zip")]))
    assert "no.zip" in capsys.readouterr().err
