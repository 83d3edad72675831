from math import inf

from report_store import report_store

from logit_store import LogitKey
from report.choice import choose_systems
from report.leaderboard import build_ranking
from report.results import Results
from report.systems import StoredSystem


def student(number, loss, model, taught_by=None):
    record = {"recipe": {"model": model, "arguments": {}}, "ensemble": taught_by}
    return StoredSystem(
        kind="student",
        split=25,
        keys=(LogitKey("tau", 25, f"s-{number}"),),
        records=(record,),
        select_loss=loss,
    )


def choose(systems, most):
    protocols = ["honest"] * len(systems)
    return choose_systems(systems, protocols, most)


def test_the_best_and_those_with_a_role_are_judged_and_the_others_named(made, results, monkeypatch):
    read, keys = made.store.read, set()

    def note(asked, *arguments, **options):
        keys.update(asked)
        return read(asked, *arguments, **options)

    monkeypatch.setattr(made.store, "read", note)
    few = Results.of(made.store, made.corpus, most=1)
    assert keys == {key for each in few.systems for key in each.keys}
    for split in (25, 100):
        ranked = sorted(results.list_systems("teacher", split), key=lambda each: each.select_loss)
        shown = [each.name for each in few.list_systems("teacher", split)]
        assert sorted(shown) == sorted([ranked[0].name, ranked[2].name])
        left_out = [each.system for each in few.unshown if each.split == split]
        assert sorted(left_out) == sorted([ranked[1].name, ranked[3].name])
        roles, expected = few.featured[split], results.featured[split]
        assert {role: each.name for role, each in roles.items()} == {
            role: each.name for role, each in expected.items()
        }


def test_the_page_counts_and_names_the_systems_that_it_leaves_out(made, results):
    few = Results.of(made.store, made.corpus, most=1)
    section = build_ranking(few)
    assert "Left out are 4 of 14 systems" in section.text
    (_, figure) = section.figures
    named = {(row["system"], row["split"]) for row in figure.table.to_pylist()}
    assert named == {(each.name, each.split) for each in results.systems} - {
        (each.name, each.split) for each in few.systems
    }
    html = figure.html.replace("<wbr>", "")
    assert html.count("2 teachers: teacher_") == 2
    assert all(name in html for name, _ in named)
    assert "Left out" not in build_ranking(results).text


def test_the_best_student_alone_of_each_network_comes_first_as_taught_ones_are_compared_with_it():
    best, second = student(1, 0.1, "a"), student(2, 0.2, "a")
    other = student(3, 0.5, "b")
    assert choose([second, other, best], most=2).shown == {best, other}


def test_systems_that_test_clips_chose_come_after_all_others():
    honest, tested = student(1, inf, "a"), student(2, 0.1, "a")
    chosen = choose_systems([tested, honest], ["published", "honest"], most=1)
    assert chosen.shown == {honest}


def test_the_store_is_listed_as_often_for_many_ensembles_as_for_one(tmp_path, monkeypatch):
    made = report_store(tmp_path)
    find, asked = made.store.files.find, []

    def note(pattern):
        asked.append(pattern)
        return find(pattern)

    monkeypatch.setattr(made.store.files, "find", note)
    Results.of(made.store, made.corpus)
    before = [pattern for pattern in asked if pattern.startswith("logits/")]
    keys = made.store.keys("tau", 25, kind="teacher")
    for name in "abc":
        made.ensemble(name, keys, split=25)
    asked.clear()
    Results.of(made.store, made.corpus)
    assert [pattern for pattern in asked if pattern.startswith("logits/")] == before
