import json
import math
from pathlib import Path

import pytest

from training import RampHoldLinear, WarmupCosine

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "students" / "schedules.json").read_text()
)


@pytest.mark.parametrize("case", GOLDEN["cosine_warmup"], ids=lambda case: case["split"])
def test_the_learning_rate_changes_as_published(case):
    for step, expected in case["values"]:
        schedule = WarmupCosine(warmup_steps=case["warmup"])
        factor = schedule.factor(step, 546, case["total"])
        # 9 digits are stored.
        assert factor == pytest.approx(expected, rel=1e-8, abs=1e-15)


def test_a_warm_up_longer_than_the_run_never_reaches_the_peak():
    assert WarmupCosine().factor(99, 10, 100) == 99 / 2000


def test_the_ramp_holds_and_falls_once_an_epoch():
    schedule = RampHoldLinear(ramp_epochs=3, hold_until_epoch=5, line_epochs=10, last_factor=0.01)
    by_epoch = [schedule.factor(7 * epoch, 7, 700) for epoch in range(30)]
    assert [schedule.factor(7 * 4 + step, 7, 700) for step in range(7)] == [1.0] * 7
    # exp(-5 (1 - t)^2), the first epoch counted as half done.
    assert by_epoch[:3] == pytest.approx([math.exp(-5 * (1 - t / 3) ** 2) for t in (0.5, 1, 2)])
    assert by_epoch[3:6] == [1.0] * 3
    assert by_epoch[10] == pytest.approx(1 - 0.5 * 0.99)
    assert by_epoch[15:] == pytest.approx([0.01] * 15)
    assert sorted(by_epoch[5:], reverse=True) == by_epoch[5:]
