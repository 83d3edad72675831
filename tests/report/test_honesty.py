from dataclasses import replace

import numpy as np
import pytest
from report_store import PROVENANCE, ReportStore

from audio.micirp import WHOLE
from report.honesty import MOST_NAMED, build_honesty
from report.results import Results


@pytest.fixture(scope="module")
def section(results):
    return build_honesty(results)


def test_nothing_is_red_where_no_test_clip_chose_anything(section):
    assert "alarm" not in section.html
    assert "No test clip chose anything" in section.html


def test_what_test_clips_chose_is_red_and_so_is_what_learnt_from_it(tmp_path):
    made = ReportStore(tmp_path)
    made.member("honest", 1, 1.0)
    cheater = made.member("cheater", 2, 1.0, protocol="published")
    made.student(3, 1.0, taught_by=made.ensemble("stepwise", [cheater]), seed=0)
    section = build_honesty(Results.of(made.store, made.corpus))
    assert 'class="notice alarm"' in section.html
    assert "3 of 4 systems" in section.html
    told = section.figures[0].table.to_pylist()
    assert {(row["kind"], row["chosen on"]) for row in told} == {
        ("teacher", "select"),
        ("teacher", "test"),
        ("ensemble", "test"),
        ("student", "test"),
    }


def test_names_are_escaped(tmp_path):
    made = ReportStore(tmp_path)
    for number, note in enumerate(("<i>", "<b>"), start=1):
        recipe = {"name": "cheater", "note": note}
        made.member("cheater", number, 1.0, recipe=recipe, protocol="published")
    page = build_honesty(Results.of(made.store, made.corpus)).html
    assert "note=&lt;b&gt;" in page
    assert "<b>" not in page


def test_only_some_of_many_published_systems_are_named(tmp_path):
    made = ReportStore(tmp_path)
    for number in range(MOST_NAMED + 3):
        made.member(f"teacher_{number}", number, 1.0, protocol="published")
    assert "and 3 more" in build_honesty(Results.of(made.store, made.corpus)).html


def test_protocols_count_systems_runs_and_seeds(section, figure):
    told = {row["kind"]: row for row in figure(section, "protocols").table.to_pylist()}
    counts = {kind: (row["systems"], row["runs"], row["seeds"]) for kind, row in told.items()}
    assert counts == {
        "teacher": (8, 8, "0"),
        "ensemble": (2, 2, "none"),
        "student": (4, 8, "0 1"),
    }


def test_commits_versions_and_machines_count_runs(section, figure):
    rows = figure(section, "made-with").table.to_pylist()
    assert {(row["what"], row["which"], row["runs"]) for row in rows} == {
        ("commit", PROVENANCE["commit"], 16),
        ("machine", "x86_64 CPU, 1 thread", 16),
        ("python", "3.11", 16),
        ("torch", "2.11.0", 16),
    }


def test_members_are_listed_with_their_hashes(results, section, figure):
    rows = figure(section, "members-of-ensembles").table.to_pylist()
    expected = [
        (each.reference, member["member"], member["weight"], member["hash"])
        for each in results.list_systems("ensemble")
        for member in each.document["members"]
    ]
    columns = ("ensemble", "member", "weight", "hash of its logits")
    assert [tuple(row[column] for column in columns) for row in rows] == expected


def test_test_clips_are_counted(made, section, figure):
    for row in figure(section, "test-clips").table.to_pylist():
        rows = made.corpus.rows(row["split"], "test")
        devices = made.corpus.column("recording_device")[rows]
        assert row["clips"] == len(rows)
        assert row["recordings"] == len(np.unique(made.corpus.column("recording")[rows]))
        assert (row["of unseen devices"], row["unseen devices"]) == ((devices == "s4").sum(), "s4")


def test_imported_runs_are_counted_separately(tmp_path, figure):
    made = ReportStore(tmp_path)
    key = made.member("teacher", 1, 1.0)
    stranger = made.store.read_record(key)
    for name in PROVENANCE:
        del stranger[name]
    made.store.write(key, made.store.read([key])[0], stranger)
    section = build_honesty(Results.of(made.store, made.corpus))
    assert "Without a commit in their records are 1 run" in section.text
    rows = figure(section, "made-with").table.to_pylist()
    assert {row["which"] for row in rows} == {"not recorded"}


def test_pools_are_named_with_their_size_and_share_and_make_systems_of_their_own(tmp_path, figure):
    made = ReportStore(tmp_path)
    ensemble = made.ensemble("stepwise", [made.member("wise", 1, 1.0)])
    rest = {"pools": [{"name": "rest", "clips": 17}], "clips": 17, "hours": 0.0047}
    pool = {**rest, "share": 0.5, "alone": False}
    first = {**rest, "share": None, "alone": True}
    for seed in (0, 1):
        made.student(10 + seed, 1.0, taught_by=ensemble, seed=seed)
        made.student(20 + seed, 1.0, taught_by=ensemble, seed=seed, pool=pool)
        made.student(30 + seed, 1.0, taught_by=ensemble, seed=seed, pool=pool, first_pool=first)
    results = Results.of(made.store, made.corpus)
    students = results.list_systems("student")
    assert sorted(each.name.partition(" pool ")[0] for each in students) == [
        "demo_isotropic from stepwise",
        "demo_isotropic from stepwise after",
        "demo_isotropic from stepwise with",
    ]
    section = build_honesty(results)
    assert (
        "Clips without labels taught 2 of 5 systems, their members or their teachers: rest."
        in section.html
    )
    rows = figure(section, "pools").table.to_pylist()
    assert [(row["stage"], row["clips"], row["share"]) for row in rows].count(
        ("with the corpus", 17, "0.5")
    ) == 2
    assert ("first, pool alone", "all") in [(row["stage"], row["share"]) for row in rows]
    assert "2 students learnt from clips without their labels" in section.text


def test_systems_that_a_student_of_a_pool_taught_are_counted_with_it(tmp_path):
    made = ReportStore(tmp_path)
    rest = {"pools": [{"name": "rest", "clips": 17}], "clips": 17, "hours": 0.0047}
    pool = {**rest, "share": 0.5, "alone": False}
    plain = made.ensemble("plain", [made.member("wise", 1, 1.0)])
    learner = made.student(10, 1.0, taught_by=plain, seed=0, pool=pool)
    made.student(20, 1.0, taught_by=made.ensemble("mixed", [learner]), seed=0)
    html = build_honesty(Results.of(made.store, made.corpus)).html
    assert "taught 3 of 5 systems, their members or their teachers: rest." in html


def test_without_pools_nothing_is_said_of_them(section):
    assert "pools" not in [each.name for each in section.figures]
    assert "without labels" not in section.html


def test_microphones_of_unseen_devices_are_marked_and_so_is_what_learnt_from_them(tmp_path):
    made = ReportStore(tmp_path)
    made.corpus = replace(made.corpus, name="tau")
    heard = {"unseen_microphones": ["AKG D12"], "recipe": recipe_of(0.6)}
    made.member("deaf", 1, 1.0, **heard | {"recipe": recipe_of(0.0)})
    hearer = made.member("hearer", 2, 1.0, **heard)
    made.student(3, 1.0, taught_by=hearer.member, seed=0)
    made.member("older", 4, 1.0, recipe=recipe_of(0.6), responses=WHOLE)
    found = build_honesty(Results.of(made.store, made.corpus))
    assert "are not unseen to 3 of 4 systems" in found.html
    told = next(each for each in found.figures if each.name == "microphones").table.to_pylist()
    assert {(row["system"], row["heard"]) for row in told} == {
        ("hearer", "AKG D12"),
        ("older", "AKG D12, Foster Dynamic DF1, Shure 510C"),
        ("demo_isotropic from hearer", "AKG D12"),
    }


def recipe_of(probability):
    return {"name": "any", "augmentation": {"impulse_response_probability": probability}}
