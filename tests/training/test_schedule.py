import json
from pathlib import Path

import pytest

from training.schedule import warmup_cosine

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "students" / "schedules.json").read_text()
)


@pytest.mark.parametrize("case", GOLDEN["cosine_warmup"], ids=lambda case: case["split"])
def test_the_learning_rate_goes_as_published(case):
    for step, expected in case["values"]:
        factor = warmup_cosine(step, case["warmup"], case["total"])
        # 9 digits are stored.
        assert factor == pytest.approx(expected, rel=1e-8, abs=1e-15)


def test_a_warm_up_longer_than_the_run_never_reaches_the_peak():
    assert warmup_cosine(99, 2000, 100) == 99 / 2000
