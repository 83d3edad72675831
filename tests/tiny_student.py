"""A student of two blocks that learns the tiny corpus in seconds, and the store that it goes to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import AUGMENTATION, FRONT_END, RECIPE

from audio.clips import Corpus
from logit_store import LogitStore
from students import Distillation, StudentRecipe, TeacherLogits

CPU = torch.device("cpu")
TINY_STUDENT = StudentRecipe(
    name="tiny",
    model="isotropic",
    arguments={"filters": 8, "depth": 2, "patch": 4},
    front_end=FRONT_END,
    augmentation=AUGMENTATION,
    training=RECIPE,
    distillation=Distillation(),
    device_loss_weight=0.0,
)


@contextmanager
def open_store(folder: Path, corpus: Corpus) -> Iterator[LogitStore]:
    """A store with the clips of a corpus, which is decoded into a cache beside the store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(folder / "cache"))
        store = LogitStore(folder / "store")
        store.write_clips(corpus.name, corpus.clips_table())
        yield store


def make_teacher_logits(corpus: Corpus, order: Sequence[int] = (0, 1, 2)) -> TeacherLogits:
    """Return logits that say `order[label]` with some doubt."""
    one_hot = np.eye(3, dtype=np.float32)[np.asarray(order)[corpus.labels()]]
    return TeacherLogits("oracle", 6 * one_hot)
