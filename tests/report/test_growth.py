"""benchmarks/growth.py: what it says of figures, and that it runs."""

import pytest

from benchmarks import growth
from benchmarks.growth import AXES, SMALL_AXES, Axis, Growth, Store, draw_growths, main


def grow(**changed):
    values = {"axis": "members", "operation": "ls", "start_s": 2.0, "peak_mb": 100.0}
    return Growth(**(values | changed))


def test_the_exponent_is_that_of_the_time_beyond_the_start():
    # The first size takes no longer than the start shows; a fit of whole times would give 1.2.
    seconds = {10: 2.001, 100: 3.0, 1000: 2 + 10**1.5, 10_000: 2 + 10**3}
    assert grow(seconds=seconds).fit_exponent() == pytest.approx(1.5)


def test_times_that_do_not_grow_beyond_the_start_have_no_exponent():
    assert grow(seconds={10: 2.0, 100: 2.5, 1000: 12.0}).fit_exponent() is None


def test_the_page_says_which_sizes_were_not_run():
    axis = Axis("members", Store(2, 10), {n: Store(n, 10) for n in (10, 100)}, {"ls": 10})
    body = growth._describe([axis], [grow(seconds={10: 4.0})], rounds=1)
    assert "| ls | 2.00 | 4.00 | not run | none | 100 |" in body.splitlines()


def test_the_picture_has_a_panel_for_each_axis():
    names = [axis.name for axis in AXES]
    picture = draw_growths([grow(axis=name, seconds={1: 1.0, 10: 9.0}) for name in names])
    assert all(f">{name}</text>" in picture for name in names)


@pytest.mark.slow
def test_the_program_measures_each_operation_and_writes_nothing_if_small(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["growth.py", "--small"])
    monkeypatch.setattr(growth, "write_whole", None)
    monkeypatch.setattr(growth, "publish", None)
    main()
    printed = capsys.readouterr().out
    assert all(printed.count(f"\n| {name} |") == len(SMALL_AXES) for name in growth.OPERATIONS)
