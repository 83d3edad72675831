"""Jobs whose store is on a real S3 server."""

import pytest
from s3_servers import BUCKET, weed

from logit_store import LogitStore

SHORT = ("--splits", "25", "--max-steps", "2")


@pytest.mark.ray
@pytest.mark.usefixtures("compiled")
def test_teachers_and_ensemble_meet_in_a_bucket(alone, tmp_path, monkeypatch):
    with weed(tmp_path) as server:
        server.name_in(monkeypatch)
        alone.environment |= server.variables()
        address = f"s3://{BUCKET}/whole/way"
        alone.job("teachers", "--recipes", "demo_cpr", *SHORT, store=address)
        alone.job("ensemble", "--splits", "25", store=address)
        store = LogitStore(address)
        (key,) = store.keys("tau", 25, kind="teacher")
        assert store.pinned("tau", 25, "stepwise") == {key: 1}
