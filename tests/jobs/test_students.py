"""Who teaches which student, and which are refused before they learn (N clips, V views)."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile

from audio import impulse_responses
from audio.corpora import tau
from audio.views import stored_views
from jobs.plan.comparison import Comparison
from jobs.plan.students import StudentsOptions, plan_students
from jobs.plan.taught_by import find_teachers
from jobs.worker.teacher_logits import read_teacher_logits
from logit_store import LogitKey, LogitStore, MissingLogits
from students import RECIPES
from students.out_of_fold import CROSS_FITTED_SHARE
from terminal.console import UserError

TEACHERS = ("wise-0123456789ab", "other-0123456789ab", "other-ba9876543210")


@pytest.fixture(scope="module")
def corpus(commands):
    return tau.read(commands.corpus)


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    """A store with three teachers of a split, the first with two views."""
    made = LogitStore(tmp_path_factory.mktemp("store"))
    made.write_clips("tau", corpus.clips_table())
    rng = np.random.default_rng(0)
    for member in TEACHERS:
        for view in range(2 if member.startswith("wise") else 1):
            logits_NK = rng.normal(0, 2, (len(corpus), len(corpus.scenes)))
            key = LogitKey("tau", 25, member, view)
            made.write(key, logits_NK, {"kind": "teacher", "protocol": "honest"})
    return made


def options(**changes):
    return StudentsOptions(corpus="tau", recipes=("demo_isotropic",), splits=(25,), **changes)


def planned(corpus, store, tmp_path, **changes):
    chosen = options(store=str(tmp_path), **changes)
    return plan_students(chosen, corpus, store, {25: None})


def test_a_member_teaches_by_its_name_with_or_without_fingerprint(store):
    for name in ("wise", TEACHERS[0]):
        assert find_teachers(options(teacher=name), "tau", store) == {25: TEACHERS[0]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "nobody"}, "split 25 has 0 members of this name"),
        ({"teacher": "other"}, "split 25 has 2 members of this name"),
        ({"teacher": "wise", "no_teacher": True}, "exclude each other"),
        ({"teacher": "wise", "ensemble": "all"}, "exclude each other"),
        ({"ensemble": "best@0123"}, "split 25 has no ensemble named best@0123"),
    ],
)
def test_who_teaches_must_be_clear(store, changes, message):
    with pytest.raises(UserError, match=message):
        find_teachers(options(**changes), "tau", store)


def test_the_best_teacher_is_the_ensemble_of_the_split(corpus, store, with_ensemble, tmp_path):
    best = options(teacher="best")
    (reference,) = with_ensemble.ensembles.find_all("tau", 25)
    assert find_teachers(best, "tau", with_ensemble) == {25: reference}
    empty = LogitStore(tmp_path)
    empty.write_clips("tau", corpus.clips_table())
    with pytest.raises(UserError, match="split 25 has 0 ensembles .* nothing tells which is best"):
        find_teachers(best, "tau", empty)
    empty.write(LogitKey("tau", 25, "best-0123456789ab"), np.zeros((len(corpus), 3)), {})
    with pytest.raises(UserError, match="has a member of this name: give its fingerprint"):
        find_teachers(best, "tau", empty)


def test_of_several_ensembles_the_best_is_that_on_clips_which_did_not_choose_it(
    with_ensemble, monkeypatch
):
    documents = {
        "worse@0": {"fold": "select", "optimism": {"nested": 0.9}},
        "better@1": {"fold": "select", "optimism": {"nested": 0.8}},
        "cheat@2": {"fold": "test", "optimism": {"nested": 0.1}},
    }
    ensembles = with_ensemble.ensembles
    monkeypatch.setattr(type(ensembles), "find_sound", lambda self, corpus, split: [*documents])
    newest = {each.partition("@")[0]: each for each in documents}
    monkeypatch.setattr(type(ensembles), "find", lambda self, corpus, split, name: newest[name])
    monkeypatch.setattr(type(ensembles), "read", lambda self, corpus, split, name: documents[name])
    assert find_teachers(options(teacher="best"), "tau", with_ensemble) == {25: "better@1"}
    del documents["better@1"]["optimism"], documents["worse@0"]["optimism"]
    with pytest.raises(UserError, match="split 25 has 2 ensembles"):
        find_teachers(options(teacher="best"), "tau", with_ensemble)


def test_a_damaged_or_conflicted_copy_of_an_ensemble_is_passed_over(corpus, with_ensemble, caplog):
    (reference,) = with_ensemble.ensembles.find_all("tau", 25)
    name = f"ensembles/v1/corpus=tau/split=25/{reference}"
    copies = {f"{name} (1).json": with_ensemble.files.get(f"{name}.json")}
    copies[f"{name.partition('@')[0]}s@0123456789ab.json"] = b"\xff"
    try:
        for copy, content in copies.items():
            with_ensemble.files.put(copy, content)
        assert find_teachers(options(), "tau", with_ensemble) == {25: reference}
        assert all(any(copy in each for each in caplog.messages) for copy in copies)
    finally:
        for copy in copies:
            with_ensemble.files.delete(copy)


def test_a_student_learns_from_a_members_logits(store):
    soft = read_teacher_logits(store, "tau", 25, TEACHERS[1], None)
    assert soft.name == TEACHERS[1]
    np.testing.assert_array_equal(soft.logits, store.read([LogitKey("tau", 25, TEACHERS[1])])[0])


def test_each_view_has_the_soft_labels_of_that_view(store):
    soft = read_teacher_logits(store, "tau", 25, TEACHERS[0], 2)
    first = LogitKey("tau", 25, TEACHERS[0])
    assert soft.members == (first,)
    expected_VNK = store.read([first, replace(first, view=1)])
    np.testing.assert_array_equal(soft.logits, expected_VNK)
    with pytest.raises(MissingLogits, match="tau/25/wise-0123456789ab/2"):
        read_teacher_logits(store, "tau", 25, TEACHERS[0], 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_macs": 1_000_000}, "demo_isotropic.*1,?000,?000"),
        ({"max_bytes": 40_000}, "demo_isotropic.*int8.*40,?000"),
        ({"precision": "fp32"}, "demo_isotropic.*fp32.*128,?000"),
        ({"max_ram": 50_000}, "demo_isotropic has 100,000 bytes of RAM in int8, .* at most 50,000"),
    ],
)
def test_a_student_over_the_budget_is_refused_before_it_learns(
    corpus, store, tmp_path, changes, message
):
    (task,) = planned(corpus, store, tmp_path)
    assert task.work.ram == 100_000
    with pytest.raises(UserError, match=message):
        planned(corpus, store, tmp_path, **changes)


def compared(corpus, store, **changes):
    chosen = options(store=store.address, compare=True, **changes)
    return Comparison.plan(chosen, corpus, store)


@pytest.fixture(scope="module")
def with_ensemble(corpus, tmp_path_factory):
    """A store with two teachers, the second better, with two views as students hear them."""
    made = LogitStore(tmp_path_factory.mktemp("with_ensemble"))
    made.write_clips("tau", corpus.clips_table())
    front_end = RECIPES["demo_isotropic"].front_end
    recipe = {"front_end": asdict(front_end), "length": {"how": "native"}}
    record = {
        "kind": "teacher",
        "protocol": "honest",
        "recipe": recipe,
        "view_augmentation": asdict(stored_views(front_end.sample_rate)),
        "responses": impulse_responses.identify_responses(None),
    }
    truth_NK = np.eye(len(corpus.scenes))[corpus.labels()]
    for member, strength in (("weak", 0.1), ("strong", 2.0)):
        for view in (0, 1):
            key = LogitKey("tau", 25, f"{member}-0123456789ab", view)
            made.write(key, strength * truth_NK, record)
    members = [f"{name}-0123456789ab" for name in ("weak", "strong")]
    hashes = [made.read_footer(LogitKey("tau", 25, member)).logits_hash for member in members]
    pairs = [{"member": m, "hash": h} for m, h in zip(members, hashes, strict=True)]
    document = {
        "space": "logits",
        "members": [pair | {"weight": 1.0, "temperature": 1.0} for pair in pairs],
        "candidates": pairs,
    }
    made.ensembles.write("tau", 25, "both", document)
    return made


def test_a_comparison_goes_from_alone_to_views_with_five_seeds_each(corpus, with_ensemble):
    tasks = compared(corpus, with_ensemble).list_tasks()
    (reference,) = with_ensemble.ensembles.find_all("tau", 25)
    taught_by = [(t.work.recipe.name, t.work.taught_by) for t in tasks[::5]]
    assert taught_by == [
        ("demo_isotropic_plain_alone", None),
        ("demo_isotropic_plain", "strong-0123456789ab"),
        ("demo_isotropic_plain", reference),
        ("demo_isotropic", reference),
        ("demo_isotropic_views2", reference),
    ]
    assert [task.work.seed for task in tasks] == 5 * [0, 1, 2, 3, 4]
    # Estimates and budgets identify a run by its name.
    assert len({task.name for task in tasks}) == len(tasks)
    by_views = tasks[-1].work.recipe
    assert by_views.distillation.n_views == 2
    assert by_views.device_loss_weight > 0


def test_a_comparison_leaves_views_out_where_the_teachers_heard_other_clips(
    corpus, with_ensemble, tmp_path, capsys
):
    responses = tmp_path / "responses"
    responses.mkdir()
    soundfile.write(responses / "one.wav", np.eye(1, 64)[0], 44_100)
    tasks = compared(corpus, with_ensemble, impulse_responses=responses, seeds=(3,)).list_tasks()
    assert len(tasks) == 4
    assert "no student learns from views: " in capsys.readouterr().out


def test_a_comparison_needs_an_ensemble_and_nobody_else(corpus, store):
    with pytest.raises(UserError, match="split 25 has no ensemble"):
        compared(corpus, store)
    with pytest.raises(UserError, match="--compare goes from no teacher to an ensemble"):
        compared(corpus, store, teacher="wise")


def test_ways_are_refused_before_anything_learns(corpus, store, tmp_path):
    ways = ("as_named", "alone+rsc", "distilled+standardized")
    names = [t.work.recipe.name for t in planned(corpus, store, tmp_path, ways=ways)]
    assert names == [
        "demo_isotropic_alone",
        "demo_isotropic_alone_rsc",
        "demo_isotropic_distilled_standardized_alone",
    ]
    with pytest.raises(UserError, match="--ways: way 'mixup\\+rsc'"):
        planned(corpus, store, tmp_path, ways=("mixup+rsc",))


def test_students_of_cross_fitted_teachers_trust_the_labels_more_unless_told_otherwise(
    corpus, store, tmp_path, capsys
):
    made = LogitStore(tmp_path)
    made.write_clips("tau", corpus.clips_table())
    (logits_NK,) = store.read([LogitKey("tau", 25, TEACHERS[0])])
    for name, more in (("plain", {}), ("crossed", {"cross_fit": 5})):
        record = {"kind": "teacher", "protocol": "honest"} | more
        made.write(LogitKey("tau", 25, f"{name}-0123456789ab"), logits_NK, record)

    def find_share(teacher, **changes):
        (task,) = plan_students(options(**changes), corpus, made, {25: f"{teacher}-0123456789ab"})
        return task.work.recipe.distillation.hard_label_weight

    assert find_share("plain") == 0.02
    assert capsys.readouterr().out == ""
    assert find_share("crossed") == CROSS_FITTED_SHARE
    said = " ".join(capsys.readouterr().out.split())
    assert "crossed-0123456789ab is cross-fitted" in said
    assert find_share("crossed", ways=("distilled+labels=0.3",)) == 0.3
