"""Finds the Ray cluster that a job uses, and makes sure within seconds that it answers.

Without this, Ray would wait a quarter of an hour for a cluster that is gone.
"""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from redact import redact_secrets
from terminal.console import UserError

PATIENCE_S = 5.0
"""How long an address is tried: a cluster that is being started may need it."""
PAUSE_S = 0.5
"""Seconds between two tries."""
_WAYS_OUT = (
    "unset RAY_ADDRESS, and the job starts Ray itself, or start a cluster with `ray start --head`"
)


class NoCluster(UserError):
    """No Ray cluster answers at an address; the message says why."""


def find_cluster() -> str | None:
    """Return the address of the cluster that a job would use; None: it would start its own.

    Raises:
        UserError: RAY_ADDRESS is no address of a cluster, or no cluster answers there.
    """
    named = os.environ.get("RAY_ADDRESS")
    if named == "local":
        return None
    if not named:
        return find_local_cluster()
    if named == "auto":
        found = find_local_cluster()
        if found is None:
            raise NoCluster(f"RAY_ADDRESS=auto: no Ray cluster runs on this machine: {_WAYS_OUT}")
        return found
    _wait_for_ray(_parse_address(named), PATIENCE_S)
    return named


def find_local_cluster() -> str | None:
    """Return the address of the cluster that `ray start` made on this machine, if it still answers.

    Ray keeps the address in a file, which a cluster that was killed leaves behind.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        address = (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
        _wait_for_ray(_parse_address(address), patience_s=0)
    except (OSError, UserError, UnicodeDecodeError):
        return None
    return address


@dataclass(frozen=True, slots=True)
class _Address:
    """An address as Ray takes it: HOST:PORT of a head, or ray://HOST:PORT of its server of clients."""

    host: str
    port: int
    is_head: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parse_address(address: str) -> _Address:
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UserError(_describe_misfit(address)) from None
    if parts.scheme not in ("", "ray") or not host or not port:
        raise UserError(_describe_misfit(address))
    return _Address(host, port, is_head=not parts.scheme)


def _describe_misfit(address: str) -> str:
    shown = f"RAY_ADDRESS={redact_secrets(address)}"
    if address.startswith(("http://", "https://")):
        return (
            f"{shown}: this is the address of a dashboard, which only `ray job submit` takes: unset "
            "RAY_ADDRESS, or give HOST:PORT of the cluster's head, such as HOST:6379"
        )
    return f"{shown}: expected HOST:PORT of a cluster's head, such as 10.0.0.5:6379"


def _wait_for_ray(address: _Address, patience_s: float) -> None:
    """Make sure that a server of Ray answers.

    Raises:
        NoCluster: none does.
    """
    deadline = time.monotonic() + patience_s
    while (reason := _find_refusal(address)) is not None:
        if time.monotonic() >= deadline:
            raise NoCluster(f"no Ray cluster answers at {address}: {reason}: {_WAYS_OUT}")
        time.sleep(PAUSE_S)
    # Ray takes seconds to import, and a port at which nobody listens does not need it.
    from jobs.schedule.ray_private import is_ray

    if not is_ray(str(address), as_head=address.is_head, timeout_s=PATIENCE_S):
        raise NoCluster(
            f"no Ray cluster answers at {address}: the server there is no head of Ray, or "
            f"RAY_USE_TLS is not what the cluster has: {_WAYS_OUT}"
        )


def _find_refusal(address: _Address) -> str | None:
    """Return why nobody listens at an address; None if somebody does."""
    try:
        socket.create_connection((address.host, address.port), timeout=PATIENCE_S).close()
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None
