import json

import pytest
from report_store import N_EPOCHS, ReportStore

import report.runs
from report.results import Results
from report.runs import MOST_OF_A_CURVE, build_runs


@pytest.fixture(scope="module")
def section(results):
    return build_runs(results)


def history(made, system, key):
    name = f"{system.kind}s/v1/{key.member}/record.json"
    return json.loads(made.store.objects.read(name))["history"]


def test_curves_are_means_over_seeds_of_the_records(made, results, section, figure):
    rows = figure(section, "learning-curves").table.to_pylist()
    learners = [each for each in results.systems if not each.reference]
    assert len(rows) == N_EPOCHS * len(learners)
    for system in learners:
        of_it = [
            row for row in rows if (row["system"], row["split"]) == (system.name, str(system.split))
        ]
        told = [history(made, system, key) for key in system.keys]
        for row, *epochs in zip(of_it, *told, strict=True):
            losses = [each["select_log_loss"] for each in epochs]
            assert row["epoch"] == epochs[0]["epoch"]
            assert row["seeds"] == len(system.keys)
            assert row["log loss"] == pytest.approx(sum(losses) / len(losses))


def test_time_is_that_of_all_splits_and_seeds(results, section, figure):
    table = figure(section, "training-time").table.to_pylist()
    for row in table:
        records = [
            record
            for system in results.systems
            if system.name == row["system"] and not system.reference
            for record in system.records
        ]
        assert row["runs"] == len(records)
        assert row["hours"] == pytest.approx(sum(each["training_s"] for each in records) / 3600)
    assert len({row["system"] for row in table}) == len(table) == 6
    assert table == sorted(table, key=lambda row: -row["hours"])


def test_curves_of_a_split_and_bars_are_drawn(section, figure, marks):
    assert marks(figure(section, "learning-curves"))["line"] == 6
    assert marks(figure(section, "training-time"))["rect"] == 6


def test_long_curves_keep_their_ends_and_many_bars_the_longest(
    tmp_path, figure, marks, monkeypatch
):
    monkeypatch.setattr(report.runs, "BARS", 2)
    made = ReportStore(tmp_path)
    for number in (1, 2, 3):
        made.member(f"teacher_{number}", number, 1.0)
    key = made.member("slow", 99, 1.0)
    name = f"teachers/v1/{key.member}/record.json"
    epochs = [{"epoch": n, "loss": 1.0, "select_log_loss": 1.0} for n in range(1, 501)]
    made.store.objects.write(name, json.dumps({"history": epochs}).encode())
    section = build_runs(Results.of(made.store, made.corpus))
    curves = figure(section, "learning-curves").table.to_pylist()
    of_slow = [row["epoch"] for row in curves if row["system"] == "slow"]
    assert (of_slow[0], of_slow[-1], len(of_slow)) == (1, 500, MOST_OF_A_CURVE)
    bars = figure(section, "training-time")
    assert bars.table.num_rows == 4
    assert marks(bars)["rect"] == 2


def test_runs_without_a_record_are_counted_and_have_no_curve(tmp_path):
    made = ReportStore(tmp_path)
    key = made.member("teacher", 1, 1.0)
    made.store.objects.delete(f"teachers/v1/{key.member}/record.json")
    section = build_runs(Results.of(made.store, made.corpus))
    assert [each.name for each in section.figures] == ["training-time"]
    assert "1 of these have no curve" in section.text


def test_a_curve_on_test_clips_says_so(tmp_path, figure):
    made = ReportStore(tmp_path)
    made.member("teacher", 1, 1.0, protocol="published")
    section = build_runs(Results.of(made.store, made.corpus))
    told = figure(section, "learning-curves").table["judged on"].unique().to_pylist()
    assert told == ["test"]
