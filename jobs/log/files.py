"""The documents that a job writes to the store while it works: its plan, signs of life, logs.

    jobs/v1/JOB/plan-0001.json         its tasks; more parts follow as others become possible
    jobs/v1/JOB/driver.json            the process that runs it, and its state
    units/v1/JOB/NUMBER/ATTEMPT.json   one attempt at a task, written by its worker

Each has one writer, which replaces it as a whole. No job reads them, so none is needed to continue.
Names of fields are those of old stores: in them a task is a `unit`, and `told` is the time of the
last sign of life.
"""

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from logit_store import DamagedFile
from logit_store.json_objects import decode_json, encode_json
from logit_store.seal import check_seal
from redact import redact_secrets

DRIVERS = "jobs/v1/*/driver.json"
"""A glob pattern that matches the drivers of all jobs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTask:
    """A task of a job's plan."""

    number: int
    """Its place among the tasks of the job; several may have the same name."""
    name: str
    """The name that people see."""
    keys: tuple[str, ...] = ()
    """The keys of its logits; none if it makes no logits."""
    stored: bool = False
    """Whether its logits were in the store before the job began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanPart:
    """Tasks that became possible at the same time."""

    units: list[PlannedTask]


@dataclass(kw_only=True, slots=True)
class DriverRecord:
    """The process that hands out a job's tasks, and the state of the job."""

    command: str
    """The command line, without the environment."""
    commit: str | None
    """The commit of the code."""
    host: str
    pid: int
    since: float
    """When it began, in Unix seconds."""
    told: float
    """When it gave its last sign of life, in Unix seconds."""
    state: Literal["running", "ended", "interrupted"] = "running"
    search: str | None = None
    """The search whose trials its tasks are; two drivers never carry out the same one at once."""
    processes: str | None = None
    """Equal to that of another process if `pid` means the same to both; None in earlier versions."""
    ended_well: list[int] = field(default_factory=list)
    """Numbers of tasks that are done and make no logits, which would show it."""
    ended_badly: dict[str, str] = field(default_factory=dict)
    """Errors of tasks that failed, by number. The full text of a task's own error is in its attempt."""


@dataclass(kw_only=True, slots=True)
class AttemptRecord:
    """One attempt at a task."""

    unit: str
    """Name of the task."""
    node: str
    """Name of the host."""
    pid: int
    since: float
    """When it began, in Unix seconds."""
    told: float
    """When it gave its last sign of life, in Unix seconds."""
    attempt: int = 1
    """Which attempt at the task it is."""
    reported: float | None = None
    """When it wrote its last line or else began, in Unix seconds; old logs do not have it."""
    state: Literal["running", "done", "failed"] = "running"
    epoch: int | None = None
    """Number of epochs that are over."""
    max_epochs: int | None = None
    clips_per_s: float | None = None
    """Clips trained on per second, in the last epoch."""
    time_left_s: float | None = None
    """Longest time left, at the end of the last epoch."""
    gpu: str | None = None
    """Name and UUID of its GPU; None is the CPU."""
    gpu_percent: float | None = None
    """Mean share of the time in which the GPU was busy, by all processes."""
    gpu_memory_bytes: int | None = None
    """Bytes in use on the GPU, by all processes."""
    gpu_total_bytes: int | None = None
    error: str | None = None
    lines: list[str] = field(default_factory=list)
    """The newest lines of its log."""
    n_dropped: int = 0
    """Number of older lines that were not kept."""


_LINES = re.compile(rb',\n? "lines": \[')
"""No value of a field before the lines can contain this, as a quote in a JSON text is escaped."""

Document = TypeVar("Document", PlanPart, DriverRecord, AttemptRecord)


def locate_plan(job: str, part: int | str) -> str:
    """Return the object of a part of a job's plan, or with `*` a glob pattern for all parts."""
    return f"jobs/v1/{job}/plan-{part if isinstance(part, str) else f'{part:04d}'}.json"


def locate_driver(job: str) -> str:
    """Return the object that a job's driver writes."""
    return f"jobs/v1/{job}/driver.json"


def parse_job(name: str) -> str:
    """Return the job that an object of these names belongs to."""
    return name.split("/")[2]


def locate_attempt(job: str, number: int, began: str) -> str:
    """Return the object of an attempt at a task; `began` sorts the attempts at a task."""
    return f"units/v1/{job}/{number:05d}/{began}.json"


def locate_attempts(job: str) -> str:
    """Return a glob pattern for all attempts of a job."""
    return f"units/v1/{job}/*/*.json"


def parse_task_number(name: str) -> int:
    """Return the number of the task that an attempt's object belongs to."""
    return int(name.split("/")[3])


def encode_document(document: PlanPart | DriverRecord | AttemptRecord) -> bytes:
    """Return the object's bytes: JSON, without secrets of this process."""
    return encode_json(asdict(document), redact_secrets)


def decode_document(kind: type[Document], data: bytes, address: str) -> Document:
    """Return the document that the object at `address` holds.

    Fields that a later version may have added are ignored.

    Raises:
        DamagedFile: it is not such a document.
    """
    try:
        return kind(**_keep_known_fields(kind, decode_json(data, address)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFile(address, repr(error)) from error


def decode_summary(data: bytes, address: str) -> AttemptRecord:
    """Return the attempt that the object at `address` holds, without the lines of its log.

    They are its last part, and thousands of logs are not needed to count tasks.

    Raises:
        DamagedFile: it is not an attempt.
    """
    check_seal(data, address)
    found = _LINES.search(data)
    summary = data if found is None else data[: found.start()] + b"}"
    return decode_document(AttemptRecord, summary, address)


def _keep_known_fields(kind: type[Any], document: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    known = {name: value for name, value in document.items() if name in names}
    if kind is PlanPart:
        known["units"] = [
            PlannedTask(**_keep_known_fields(PlannedTask, task)) for task in known["units"]
        ]
    if kind is PlannedTask:
        known["keys"] = tuple(known["keys"])
    return known
