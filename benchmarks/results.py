"""What all benchmarks have in common: fair timing, the machine, and RESULTS.md."""

import datetime
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from training import code_commit

FILE = Path(__file__).resolve().parent / "RESULTS.md"
TITLE = (
    "# What was measured\n\nEach section was written by the program that it names. Ratios are of "
    "one run, whose sides took turns.\n"
)


def take_turns(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    device: torch.device,
    calls: int = 1,
    by_the_wall: bool = False,
) -> dict[str, list[float]]:
    """Seconds of a call of each side, one figure a round; all sides take their turn in a round.

    On a machine that others use too, only sides that took turns can be compared. On a CPU the
    seconds are those that this process had a core (sides run on one thread), so that others' turns
    do not count, unless the wall's were asked for. A first round warms up and does not count.

    Args:
        sides: what to time, by name.
        rounds: how many figures of each.
        device: a GPU is waited for before the clock is read.
        calls: of a side in its turn.
        by_the_wall: for sides on several threads, whose processor time is that of all of them.
    """
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu or by_the_wall else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            _wait(device)
            began = clock()
            for _ in range(calls):
                side()
            _wait(device)
            seconds[name].append((clock() - began) / calls)
    return {name: times[1:] for name, times in seconds.items()}


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the rounds of one side's figure over the other's."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(device: torch.device) -> str:
    """Processor or GPU, threads and versions, in words."""
    where = f"{_processor()}, {torch.get_num_threads()} thread(s)"
    if device.type == "cuda":
        where = f"{torch.cuda.get_device_name(device)}; {where}"
    return f"{where}; torch {torch.__version__}, Python {platform.python_version()}"


def publish(program: str, title: str, device: torch.device, body: str) -> None:
    """Show a section and put it in the place of the last one of that title in RESULTS.md."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    commit = code_commit() or "unknown"
    section = (
        f"## {title}\n\n{body}\n\n`python benchmarks/{program}`, {today}, commit {commit}, "
        f"on {machine(device)}.\n"
    )
    print(section)
    before = FILE.read_text() if FILE.exists() else TITLE
    FILE.write_text(with_section(before, title, section))


def with_section(text: str, title: str, section: str) -> str:
    """The text with the section of that title replaced, or added at the end."""
    parts = re.split(r"(?m)^(?=## )", text)
    own = [part.startswith(f"## {title}\n") for part in parts]
    if not any(own):
        parts.append(section)
        own.append(False)
    replaced = [section if mine else part for part, mine in zip(parts, own, strict=True)]
    return "\n".join(part.strip("\n") + "\n" for part in replaced)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
