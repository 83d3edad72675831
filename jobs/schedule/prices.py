"""Prices of machines: cluster/prices.toml."""

import datetime
import tomllib
from pathlib import Path

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from jobs.schedule.task import GIB, Needs
from terminal.console import UserError

PRICES = Path(__file__).resolve().parents[2] / "cluster" / "prices.toml"

OWN = "laptop"
"""The entry of a machine of one's own, which costs nothing."""


class Price(BaseModel):
    """A machine and its price per hour."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    currency: str
    gpus: NonNegativeInt
    cpus: PositiveInt
    memory_gib: PositiveInt
    accelerator: str
    """Its GPU, as CUDA names it; empty if it has none, or if it does not matter."""
    on_demand: NonNegativeFloat
    """Price of an hour."""
    spot: NonNegativeFloat | None = None
    """Price of an hour as a spot machine, which changes daily; None if nobody has looked it up."""
    read: datetime.date | None = None
    """When the prices were read from the source; None if nobody has compared them."""
    source: str
    """Where the prices are published."""

    @property
    def is_own(self) -> bool:
        """Whether it is a machine of one's own, which costs nothing."""
        return self.name == OWN

    def find_share(self, needs: Needs) -> float:
        """Return the share of the machine that a run takes; above 1 it takes several machines.

        It is the largest of its shares of cores, GPUs and memory.

        Raises:
            UserError: it needs a GPU, and the machine has none.
        """
        if needs.gpus and not self.gpus:
            raise UserError(
                f"--machine {self.name} has no GPU ({PRICES}), and a run takes {needs.gpus:g}: name "
                "another, or give --gpus-per-run 0"
            )
        shares = [
            needs.cpus / self.cpus,
            needs.gpus / max(1, self.gpus),
            needs.memory_bytes / (self.memory_gib * GIB),
        ]
        return max(shares)

    def find_cost(self, needs: Needs, seconds: float, *, spot: bool) -> float:
        """Return the cost of a run of this duration.

        Raises:
            UserError: the run needs a GPU and the machine has none, or has no spot price.
        """
        return self.find_share(needs) * self.find_hourly_price(spot=spot) * seconds / 3600

    def find_hourly_price(self, *, spot: bool) -> float:
        """Return the price of an hour of the whole machine.

        Raises:
            UserError: prices.toml has no spot price of it.
        """
        if not spot:
            return self.on_demand
        if self.spot is None:
            raise UserError(
                f"--spot: {PRICES} has no spot price of {self.name}; look at {self.source} and add "
                "it there as spot = PRICE"
            )
        return self.spot

    def format_amount(self, money: float) -> str:
        """Format an amount of money for people."""
        return f"{money:,.2f} {self.currency}"


def find_price(name: str, file: Path = PRICES) -> Price:
    """Return the price of a machine.

    Raises:
        UserError: there is none of that name, or the file is malformed; the message says where.
    """
    try:
        document = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}") from error
    machines = {key: entry for key, entry in document.items() if isinstance(entry, dict)}
    if name not in machines:
        raise UserError(f"{file} has no machine {name}; it has {', '.join(machines)}")
    try:
        currency = document.get("currency")
        return Price.model_validate({"name": name, "currency": currency, **machines[name]})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        found = "" if first["type"] == "missing" else f" is {first['input']!r}"
        raise UserError(f"{file}, [{name}]: {field}{found}: {first['msg']}") from error
