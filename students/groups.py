"""The groups that scenes belong to: the second task of some students."""

from collections.abc import Sequence

GROUPS = ("indoor", "outdoor", "transport")
GROUP_OF_SCENE = {
    "airport": "indoor",
    "bus": "transport",
    "metro": "transport",
    "metro_station": "indoor",
    "park": "outdoor",
    "public_square": "outdoor",
    "shopping_mall": "indoor",
    "street_pedestrian": "outdoor",
    "street_traffic": "outdoor",
    "tram": "transport",
}
"""Source: DSMN (Wangkkklll/DSMN_dcase2023)."""


def check_groups(scenes: Sequence[str]) -> None:
    """Check that every scene is in a group.

    Raises:
        ValueError: names the scenes that are in no group.
    """
    unknown = [scene for scene in scenes if scene not in GROUP_OF_SCENE]
    if unknown:
        raise ValueError(
            f"scenes {', '.join(unknown)} are in no group of GROUP_OF_SCENE: a student of two tasks "
            f"learns {', '.join(GROUP_OF_SCENE)} only"
        )
