import pytest
from report_store import ReportStore

from metrics import log_loss
from report.choice import ALONE, BEST, ENSEMBLE, MEDIAN, ROLES, TAUGHT
from report.featured import list_splits
from report.results import Results


def select_loss(made, system):
    rows = made.corpus.rows(system.split, "select")
    labels = made.corpus.labels()[rows]
    losses = [log_loss(made.store.read([key])[0][rows], labels) for key in system.keys]
    return sum(losses) / len(losses)


def test_the_best_teacher_has_the_lowest_loss_on_select_and_the_median_half_of_all(made, results):
    for split in (25, 100):
        shown = results.featured[split]
        ranked = sorted(
            results.list_systems("teacher", split), key=lambda each: select_loss(made, each)
        )
        assert (shown[BEST], shown[MEDIAN]) == (ranked[0], ranked[2])
        assert tuple(shown) == ROLES


def test_student_and_ensemble_belong_together(results):
    shown = results.featured[100]
    assert shown[TAUGHT].taught_by == shown[ENSEMBLE].reference
    assert shown[ALONE].taught_by is None
    assert list_splits(results) == [100, 25]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    made = ReportStore(tmp_path_factory.mktemp("mixed"))
    made.member("cheater", 1, 9.0, protocol="published")
    made.member("learner", 2, 0.5)
    made.member("cheater", 3, 9.0, protocol="published", split=25)
    return Results.of(made.store, made.corpus)


def test_systems_chosen_on_test_are_shown_only_if_there_are_no_others(mixed):
    assert [each.name for each in mixed.featured[100].values()] == ["learner"]
    assert [each.name for each in mixed.featured[25].values()] == ["cheater (published)"]
