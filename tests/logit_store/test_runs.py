"""The records of all runs as one table."""

import numpy as np
import pytest

from logit_store import LogitKey, LogitStore
from logit_store.runs import RUNS_SCHEMA

TAUGHT = {
    "kind": "student",
    "recipe": {"name": "isotropic", "model": "isotropic"},
    "seed": 3,
    "protocol": "honest",
    "ensemble": "stepwise@0123456789ab",
    "macs": 29_747_914,
    "params": 47_946,
    "epochs": 150,
    "best_epoch": 140,
    "training_s": 5400.0,
    "commit": "0" * 40,
    "machine": {"host": "node7", "accelerator": None, "threads": 8},
}


@pytest.fixture
def filled(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    """A student with two views, and logits without a record."""
    for view in (0, 1):
        store.write(LogitKey("tau", 25, "isotropic-00000000000a", view), logits_NK, TAUGHT)
    store.write(LogitKey("tau", 100, "theirs-00000000000b"), -logits_NK, {})
    return store


def test_a_run_is_one_row_with_the_values_of_its_record(filled: LogitStore) -> None:
    runs = filled.runs()
    assert runs.schema.equals(RUNS_SCHEMA)
    assert runs["member"].to_pylist() == ["isotropic-00000000000a", "theirs-00000000000b"]
    row = runs.to_pylist()[0]
    figures = filled.read_footer(LogitKey("tau", 25, row["member"])).find_scores("select")
    assert figures is not None
    expected = {
        "name": "isotropic",
        "kind": "student",
        "corpus": "tau",
        "split": 25,
        "recipe": "isotropic",
        "model": "isotropic",
        "seed": 3,
        "protocol": "honest",
        "taught_by": "stepwise@0123456789ab",
        "log_loss_select": figures.log_loss,
        "accuracy_select": figures.accuracy,
        "epochs": 150,
        "best_epoch": 140,
        "training_h": 1.5,
        "parameters": 47_946,
        "macs": 29_747_914,
        "commit": "0" * 40,
        "host": "node7",
    }
    assert {name: row[name] for name in expected} == expected
    assert row["family"] is row["accelerator"] is None


def test_missing_values_are_null_and_no_score_is_of_test(filled: LogitStore) -> None:
    theirs = filled.runs(split=100).to_pylist()
    assert [row["member"] for row in theirs] == ["theirs-00000000000b"]
    known = {name for name, value in theirs[0].items() if value is not None}
    figures = {"log_loss_select", "accuracy_select"}
    assert known == {"member", "name", "corpus", "split", "written", *figures}
    assert not [name for name in RUNS_SCHEMA.names if "test" in name]


ODD_RECORDS = [
    {"recipe": "by hand", "machine": "a laptop", "training_s": "long", "epochs": True},
    {"recipe": ["x"], "machine": {"host": 7}, "params": 1.5},
]


@pytest.mark.parametrize("record", ODD_RECORDS)
def test_any_record_makes_a_row(
    store: LogitStore, logits_NK: np.ndarray, record: dict[str, object]
) -> None:
    store.write(LogitKey("tau", 5, "odd-1"), logits_NK, record)
    (row,) = store.runs().to_pylist()
    assert row["member"] == "odd-1"
    for name in ("host", "training_h", "epochs", "parameters", "model"):
        assert row[name] is None


def test_sql_has_a_view_of_runs(filled: LogitStore) -> None:
    answer = filled.sql("select name, sum(training_h) as hours from runs group by all order by all")
    assert answer.to_pylist() == [
        {"name": "isotropic", "hours": 1.5},
        {"name": "theirs", "hours": None},
    ]


def test_a_second_listing_opens_no_logits(
    filled: LogitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled.runs()

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a file of logits was opened")

    monkeypatch.setattr("logit_store.logits_file.open_logits", refuse)
    assert LogitStore(filled.address).runs().equals(before)


def test_a_store_without_members_has_no_runs(store: LogitStore) -> None:
    assert store.runs().equals(RUNS_SCHEMA.empty_table())
