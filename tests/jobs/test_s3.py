"""Jobs whose store is on a real S3 server."""

import threading

import psutil
import pytest
from s3_servers import BUCKET, weed

from logit_store import LogitStore

SHORT = ("--splits", "25", "--max-steps", "2")


def watch_command_lines(seen, ended):
    """Gather what `ps` shows, until told to end."""
    while not ended.wait(1):
        for process in psutil.process_iter(["cmdline"]):
            seen.add(" ".join(process.info["cmdline"] or []))


@pytest.mark.ray
@pytest.mark.usefixtures("compiled")
def test_teachers_and_ensemble_meet_in_a_bucket_and_their_key_is_seen_nowhere(
    alone, tmp_path, monkeypatch
):
    seen, ended = set(), threading.Event()
    watcher = threading.Thread(target=watch_command_lines, args=(seen, ended), daemon=True)
    with weed(tmp_path) as server:
        server.name_in(monkeypatch)
        alone.environment |= server.variables()
        address = f"s3://{BUCKET}/whole/way"
        watcher.start()
        try:
            printed = alone.job("teachers", "--recipes", "demo_cpr", *SHORT, store=address)
            printed += alone.job("ensemble", "--splits", "25", store=address)
        finally:
            ended.set()
            watcher.join()
        store = LogitStore(address)
        (key,) = store.keys("tau", 25, kind="teacher")
        assert store.pinned("tau", 25, "stepwise") == {key: 1}
        written = [store.files.get(entry.name) for entry in store.files.everything()]
    assert any(b"teachers.py" in content for content in written)  # the job's log is among them
    assert any("jobs/teachers.py" in line for line in seen)
    for place in (printed, *seen, *(content.decode(errors="replace") for content in written)):
        assert server.secret not in place
