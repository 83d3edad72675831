"""The way from teachers to a student with a store on a real S3 server."""

import pytest
from s3_servers import BUCKET, weed

from logit_store import LogitStore

SHORT = ("--splits", "25", "--max-steps", "2")


@pytest.mark.ray
def test_teachers_ensemble_and_student_meet_in_a_bucket(commands, tmp_path, monkeypatch):
    with weed(tmp_path) as server:
        server.name_in(monkeypatch)
        commands.environment |= server.variables()
        address = f"s3://{BUCKET}/whole/way"
        teachers = ("--recipes", "demo_cpr", "demo_mn", *SHORT)
        commands.job("teachers", *teachers, store=address)
        printed = commands.job("teachers", *teachers, store=address)
        assert "2 of 2 runs are in the store already" in printed
        commands.job("ensemble", "--splits", "25", store=address)
        options = ("--recipes", "demo_isotropic", "--splits", "25")
        commands.job("students", *options, store=address)
        store = LogitStore(address)
        assert len(store.keys("tau", 25, kind="teacher")) == 2
        assert len(store.keys("tau", 25, kind="student")) == 1
        assert store.pinned("tau", 25, "stepwise")
        listed = commands.run("-m", "logit_store", "verify", "--store", address)
        assert "demo_cpr" not in listed
