"""Several labels a clip, as one text between bars: `|dog|rain|`; `|` is none of the classes.

Dimensions: N clips, K classes.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

BAR = "|"
"""Stands before, between and after the labels of a clip that may have several."""


def parse_labels(cell: str) -> str:
    """Return the labels of a cell, such as `rain | dog`, as a table of clips has them: `|dog|rain|`.

    A bar alone is none; an empty cell stays empty: a clip that nobody labelled.

    Raises:
        ValueError: A label is empty, or there twice; says which.
    """
    if cell in ("", BAR):
        return cell
    labels = [label.strip() for label in cell.split(BAR)]
    if "" in labels:
        raise ValueError(f"an empty label, expected labels between bars: dog{BAR}rain")
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ValueError(f"the label {twice[0]} twice, expected it once")
    return f"{BAR}{BAR.join(sorted(labels))}{BAR}"


def are_several(scenes: Iterable[str]) -> bool:
    """Return whether scenes are lists of labels: all of them, but those without labels, have the bars."""
    labelled = [scene for scene in scenes if scene]
    return bool(labelled) and all(s.startswith(BAR) and s.endswith(BAR) for s in labelled)


def find_classes(scenes: Iterable[str]) -> list[str]:
    """Return the classes that occur in scenes, sorted, whether they are one label each or lists of them."""
    known = [scene for scene in dict.fromkeys(scenes) if scene]
    if are_several(known):
        return sorted({label for scene in known for label in split_labels(scene)})
    return sorted(known)


def split_labels(scene: str) -> list[str]:
    """Return the labels of a scene that is a list of them."""
    return scene.strip(BAR).split(BAR) if scene.strip(BAR) else []


def make_targets(scenes: pa.ChunkedArray, classes: Sequence[str]) -> np.ndarray:
    """Return whether each clip has each class, int8 [N, K]: 1, 0, or a row of -1 without labels.

    Args:
        scenes: Lists of labels, [N].
        classes: In the order of the columns; labels that it lacks are left out.
    """
    encoded = scenes.combine_chunks().dictionary_encode()
    column_of = {name: column for column, name in enumerate(classes)}
    texts = encoded.dictionary.to_pylist()
    rows = np.zeros((len(texts), len(classes)), dtype=np.int8)
    for row, text in zip(rows, texts, strict=True):
        if not text:
            row[:] = -1
        row[[column_of[label] for label in split_labels(text) if label in column_of]] = 1
    return rows[encoded.indices.to_numpy()]
