"""The few systems that represent a split in charts, as more would be unreadable."""

from report.results import Results


def list_splits(results: Results) -> list[int]:
    """Return the splits that have systems, the largest first."""
    return sorted({system.split for system in results.systems}, reverse=True)


def describe_featured(results: Results) -> str:
    """Return a line for each split with the names of the systems that are shown."""
    return "\n\n".join(
        f"Split {split}: "
        + "; ".join(f"{role}: {system.name}" for role, system in results.featured[split].items())
        + "."
        for split in list_splits(results)
    )
