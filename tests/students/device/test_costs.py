"""What students of the catalogue cost on a Cortex-M, and what the page says of it.

QEMU's figures are exact for a compiler, and another compiler may need a little more: SLACK.
"""

import pytest
from c_students import needs_vnni
from hand_made_students import need

from benchmarks.boards import (
    COSTS,
    PAGE,
    ROOMS,
    BoardCosts,
    make_rooms,
    measure_folder,
    read_table,
    write_untrained,
)

SAID = [BoardCosts.parse(line) for line in read_table(PAGE.read_text(), COSTS)]
SLACK = 1.02
EXACT = ("isotropic", "dsmn", "recursive")
"""Students without a sum whose order another runtime may choose."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write the folder of an untrained student, once for all boards."""
    need("arm-none-eabi-gcc", "qemu-system-arm")
    made = tmp_path_factory.mktemp("students")

    def write(name, *, has_front_end):
        to = made / f"{name}{'_from_samples' * has_front_end}"
        return to if to.exists() else write_untrained(name, to, has_front_end=has_front_end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield write


def test_the_chips_of_the_page_have_room_for_the_students_that_it_names():
    rows = [f"| {' | '.join(cells)} |" for cells in make_rooms(SAID)]
    assert read_table(PAGE.read_text(), ROOMS) == rows


@pytest.mark.slow
@pytest.mark.parametrize("said", SAID, ids=[each.student for each in SAID])
def test_no_student_costs_more_from_samples_than_the_page_says(folder, said):
    measured = measure_folder(folder(said.student, has_front_end=True), "m7", clips=1)
    costs = BoardCosts.of(said.student, measured)
    for field in ("flash_bytes", "static_bytes", "instructions", "front_end_instructions"):
        assert getattr(costs, field) <= SLACK * getattr(said, field), field
    assert costs.stack_bytes <= said.stack_bytes + 512


@needs_vnni
@pytest.mark.slow
@pytest.mark.parametrize("student", [each.student for each in SAID])
def test_a_student_s_logits_on_a_cortex_m7_are_those_of_its_int8_file(folder, student):
    measured = measure_folder(folder(student, has_front_end=False), "m7", clips=3)
    assert measured.agreement == 1
    is_exact = any(kind in student for kind in EXACT)
    assert measured.max_difference <= (0 if is_exact else 1e-2)


@needs_vnni
@pytest.mark.slow
@pytest.mark.parametrize(("board", "times"), [("m4", 1.0), ("m3", 10.0)])
def test_a_student_runs_on_smaller_processors_as_the_page_says(folder, board, times):
    (said,) = (each for each in SAID if each.student == "isotropic")
    costs = measure_folder(folder("isotropic", has_front_end=True), board, clips=1)
    assert costs.spent <= SLACK * times * said.instructions
    assert costs.static_bytes <= SLACK * said.static_bytes
    assert costs.flash_bytes <= 1.1 * said.flash_bytes
    assert (
        measure_folder(folder("isotropic", has_front_end=False), board, clips=1).max_difference == 0
    )
