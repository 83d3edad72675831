"""What a job leaves in the store about itself while it works: its plan, signs of life, logs.

    jobs/v1/JOB/plan-0001.json         its units; more parts as others become possible
    jobs/v1/JOB/driver.json            who runs it, how it stands
    units/v1/JOB/NUMBER/ATTEMPT.json   one try at a unit, from the worker that makes it

Each has one writer, who replaces it whole; nobody needs any of them to go on.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from jobs.redact import without_secrets
from logit_store import DamagedFile

DRIVERS = "jobs/v1/*/driver.json"
"""A glob pattern for the drivers of all jobs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedUnit:
    """A unit of a job's plan."""

    number: int
    """Counts the units of a job; names may be alike."""
    name: str
    """What people see."""
    keys: tuple[str, ...] = ()
    """Where its logits will lie; none if it makes no logits."""
    stored: bool = False
    """Whether they lay there before the job began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanPart:
    """Units that became possible at the same time."""

    units: list[PlannedUnit]


@dataclass(kw_only=True, slots=True)
class Driver:
    """The process that hands out a job's units, and how the job stands."""

    command: str
    """Without the environment."""
    commit: str | None
    """Of the code."""
    host: str
    pid: int
    since: float
    """When it began, in unix seconds."""
    told: float
    """When it was heard of last, in unix seconds."""
    state: Literal["running", "ended", "interrupted"] = "running"
    search: str | None = None
    """The search that its units are trials of, which no two drivers carry out at once."""
    ended_well: list[int] = field(default_factory=list)
    """Numbers of units that are done and have no logits in the store to say so."""
    ended_badly: dict[str, str] = field(default_factory=dict)
    """By number, why a unit failed. A unit's own error stands in its attempt."""


@dataclass(kw_only=True, slots=True)
class Attempt:
    """One try at a unit."""

    unit: str
    """Its name."""
    node: str
    """Name of the host."""
    pid: int
    since: float
    """When it began, in unix seconds."""
    told: float
    """When it was heard of last, in unix seconds."""
    state: Literal["running", "done", "failed"] = "running"
    epoch: int | None = None
    """Epochs that are over."""
    max_epochs: int | None = None
    clips_per_s: float | None = None
    """Learnt from, in the last epoch."""
    time_left_s: float | None = None
    """When the last epoch was over, at most."""
    gpu: str | None = None
    """Name and UUID of the GPU that it computes on; None is the CPU."""
    gpu_percent: float | None = None
    """Mean share of the time in which the GPU was busy, whoever kept it so."""
    gpu_memory_bytes: int | None = None
    """In use on the GPU, by whomever."""
    gpu_total_bytes: int | None = None
    error: str | None = None
    lines: list[str] = field(default_factory=list)
    """What it said; the newest."""
    n_dropped: int = 0
    """Lines before these that there was no room for."""


Document = TypeVar("Document", PlanPart, Driver, Attempt)


def plan_object(job: str, part: int | str) -> str:
    """Where a part of a job's plan lies; `*` is all parts."""
    return f"jobs/v1/{job}/plan-{part if isinstance(part, str) else f'{part:04d}'}.json"


def driver_object(job: str) -> str:
    """Where a job's driver tells of itself."""
    return f"jobs/v1/{job}/driver.json"


def job_of(name: str) -> str:
    """The job that an object of the above names belongs to."""
    return name.split("/")[2]


def attempt_object(job: str, number: int, began: str) -> str:
    """Where an attempt at a unit lies; `began` sorts a unit's attempts."""
    return f"units/v1/{job}/{number:05d}/{began}.json"


def attempts_pattern(job: str) -> str:
    """A glob pattern for all attempts of a job."""
    return f"units/v1/{job}/*/*.json"


def unit_of(name: str) -> int:
    """The number of the unit that an attempt's object belongs to."""
    return int(name.split("/")[3])


def encoded(document: PlanPart | Driver | Attempt) -> bytes:
    """The object's bytes: JSON, without secrets of this process."""
    return without_secrets(json.dumps(asdict(document))).encode()


def decoded(kind: type[Document], data: bytes, address: str) -> Document:
    """What the object at `address` holds.

    Fields that a later version may have added are passed over.

    Raises:
        DamagedFile: it is no such document.
    """
    try:
        return kind(**_known(kind, json.loads(data)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFile(address, repr(error)) from error


def _known(kind: type[Any], document: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    known = {name: value for name, value in document.items() if name in names}
    if kind is PlanPart:
        known["units"] = [PlannedUnit(**_known(PlannedUnit, unit)) for unit in known["units"]]
    if kind is PlannedUnit:
        known["keys"] = tuple(known["keys"])
    return known
