"""The whole pipeline in this process: teachers, ensembles, students, and their figures on test."""

import pytest

from logit_store import LogitStore


@pytest.mark.usefixtures("compiled")
def test_the_pipeline_goes_all_the_way_and_what_is_stored_is_not_done_again(
    commands, called, tmp_path
):
    options = ("--demo", "--recipes", "demo_cpr", "--seeds", "0", "1", "--student-seeds", "0")
    options += ("--pool", "rest", "--max-steps", "4")
    command = commands.arguments("pipeline", *options, store=tmp_path)
    printed = called(*command)
    for system in ("best: demo_cpr", "ensemble", "student alone"):
        assert system in printed
    for taught in ("student distilled", "student distilled, pool"):
        assert f"gain of {taught}, split 25: " in printed
    store = LogitStore(tmp_path)
    assert len(store.keys("tau", 25, kind="teacher")) == 2
    assert len(store.keys("tau", 25, kind="student")) == 3
    (name,) = store.ensembles.find_all("tau", 25)
    document = store.ensembles.read("tau", 25, name)
    assert document["losses"] == sorted(document["losses"], reverse=True)
    assert sum(member["weight"] for member in document["members"]) == pytest.approx(1)
    again = called(*command)
    assert "6 of 6 runs are in the store already" in again
    assert (
        again[again.index("on the test clips") :] == printed[printed.index("on the test clips") :]
    )
    planned = called(*command, "--dry-run")
    assert "0 runs to do" in planned
    assert "to do  " not in planned
