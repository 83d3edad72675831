"""Code that all benchmarks share: fair timing, the description of the machine, and RESULTS.md."""

import datetime
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from disk import write_whole
from training import find_commit

FILE = Path(__file__).resolve().parent / "RESULTS.md"
TITLE = (
    "# Benchmark results\n\nEach section was written by the program that it names. The sides of "
    "each ratio were measured in one run, in which they took turns.\n"
)


def take_turns(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    device: torch.device,
    calls: int = 1,
    by_the_wall: bool = False,
) -> dict[str, list[float]]:
    """Return the seconds per call of each side, one number per round; all sides run in each round.

    On a machine that others use too, only sides that took turns can be compared. On a CPU the clock
    counts this process's processor time (sides run on one thread), so that other processes do not
    count, unless `by_the_wall` is set. A first round warms up and does not count.

    Args:
        sides: functions to time, by name.
        rounds: number of measurements of each side.
        device: where sides run; a GPU is synchronised before the clock is read.
        calls: number of calls of a side in its turn.
        by_the_wall: for sides on several threads, whose processor time would be added up.
    """
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu or by_the_wall else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            synchronise(device)
            began = clock()
            for _ in range(calls):
                side()
            synchronise(device)
            seconds[name].append((clock() - began) / calls)
    return {name: times[1:] for name, times in seconds.items()}


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done all that it was asked to do; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the ratios of two sides' numbers over the rounds."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose other columns are numbers."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def format_machine(device: torch.device) -> str:
    """Return the processor or GPU, the threads and the versions as text."""
    where = f"{_read_processor()}, {torch.get_num_threads()} thread(s)"
    if device.type == "cuda":
        where = f"{torch.cuda.get_device_name(device)}; {where}"
    return f"{where}; torch {torch.__version__}, Python {platform.python_version()}"


def publish(program: str, title: str, device: torch.device, body: str) -> None:
    """Print a section, and write it to RESULTS.md in place of the one with the same title."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    commit = find_commit() or "unknown"
    section = (
        f"## {title}\n\n{body}\n\n`python benchmarks/{program}`, {today}, commit {commit}, "
        f"on {format_machine(device)}.\n"
    )
    print(section)
    before = FILE.read_text() if FILE.exists() else TITLE
    write_whole(FILE, replace_section(before, title, section).encode())


def replace_section(text: str, title: str, section: str) -> str:
    """Return the text with the section of that title replaced, or added at the end."""
    parts = re.split(r"(?m)^(?=## )", text)
    own = [part.startswith(f"## {title}\n") for part in parts]
    if not any(own):
        parts.append(section)
        own.append(False)
    replaced = [section if mine else part for part, mine in zip(parts, own, strict=True)]
    return "\n".join(part.strip("\n") + "\n" for part in replaced)


def _read_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
