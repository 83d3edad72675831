"""Published taggers teach own classes by a class map."""

import numpy as np
import pytest
import torch
from torch import nn

from audio.errors import CorpusError
from teachers.backbones.backbone import Backbone
from teachers.backbones.opened import OpenBackbone, TeacherEmbedding
from teachers.class_map import list_audioset_ids, read_class_map
from teachers.errors import UnknownTeacher
from teachers.taggers import compute_tags, find_tagger

CLASSES = ("dog", "rain")
LINES = ("class,id", "dog,/m/05tny_", "dog,/m/0bt9lr", "rain,/m/06mb1")


def write_map(folder, *lines):
    (folder / "map.csv").write_text("\n".join(lines))
    return folder / "map.csv"


def test_audioset_has_527_ids_in_the_order_of_taggers():
    ids = list_audioset_ids()
    assert len(set(ids)) == len(ids) == 527
    # Speech, dog, music, rain and field recording, as class_labels_indices.csv numbers them.
    assert [ids[place] for place in (0, 74, 137, 289, 526)] == [
        "/m/09x0r",
        "/m/0bt9lr",
        "/m/04rlf",
        "/m/06mb1",
        "/m/07hvw1",
    ]


def test_an_own_class_is_as_sure_as_the_surest_of_its_ids(tmp_path):
    class_map = read_class_map(write_map(tmp_path, *LINES), CLASSES)
    logits_NA = np.random.default_rng(0).normal(size=(5, 527)).astype(np.float32)
    expected_NK = np.stack([logits_NA[:, [74, 75]].max(axis=1), logits_NA[:, 289]], axis=1)
    assert np.array_equal(class_map.apply(logits_NA), expected_NK)
    assert class_map == read_class_map(write_map(tmp_path, LINES[0], *LINES[:0:-1]), CLASSES)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (LINES[:3], "no line for class rain"),
        ((*LINES, "rian,/m/06mb1"), "line 5: class rian, expected one of the corpus; .* rain"),
        ((*LINES, "rain,/m/06mb"), "line 5: id /m/06mb, expected one of AudioSet's 527.* /m/06mb1"),
        (("class", "dog"), "no column id"),
    ],
)
def test_a_wrong_class_map_is_refused_with_file_and_line(tmp_path, lines, reason):
    with pytest.raises(CorpusError, match=f"map.csv.*{reason}"):
        read_class_map(write_map(tmp_path, *lines), CLASSES)


@pytest.mark.parametrize("name", ["cpr_128", "mn10_im", "nothing"])
def test_what_did_not_learn_audioset_is_no_tagger(tmp_path, name):
    with pytest.raises(UnknownTeacher, match=f"no tagger {name}"):
        find_tagger(name, read_class_map(write_map(tmp_path, *LINES), CLASSES))


class TinyTagger(nn.Module):
    """Says of each class how loud the clip is, times the number of the class."""

    def forward(self, inputs_BCFT):
        loudness_B = inputs_BCFT.mean((1, 2, 3))
        return loudness_B[:, None] * torch.arange(527), loudness_B[:, None]


def test_tags_are_the_first_thing_that_a_network_gives(tmp_path, monkeypatch):
    from tiny import tiny_corpus

    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    opened = OpenBackbone(TeacherEmbedding(TinyTagger()), "0123")
    monkeypatch.setattr(Backbone, "open", lambda self, device, store: opened)
    tagger = find_tagger("mn10_as", read_class_map(write_map(tmp_path, *LINES), CLASSES))
    corpus = tiny_corpus(tmp_path)
    logits_NA, sha256 = compute_tags(tagger.backbone, corpus, None, torch.device("cpu"))
    assert logits_NA.shape == (len(corpus), 527)
    assert sha256 == "0123"
    assert np.allclose(logits_NA[:, 526], 526 * logits_NA[:, 1], rtol=1e-4)
