"""Backbones: from a name to embeddings."""

import hashlib
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch

from audio.feed import Feed
from audio.lengths import ClipLength
from audio.views import stored_views
from logit_store import DamagedFile, LogitKey, LogitStore
from teachers import RECIPES, UnfitClips, build
from teachers.backbones import (
    LeakyBackbone,
    UnknownBackbone,
    check_learnt,
    find_backbone,
    name_backbone,
)
from teachers.backbones.embed import Embedder
from teachers.catalogue import CATALOGUE
from teachers.fetch import locate_file
from training import locate_weights

CPU = torch.device("cpu")
MEMBER = "small-0123456789ab"
RECIPE = replace(
    RECIPES["demo_mn"], arguments={"width": 0.1}, length=ClipLength(how="crop", duration_s=0.5)
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny.tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The published weights of the smallest MobileNet, as far as this machine knows."""
    monkeypatch.setenv("TUTTI_WEIGHTS", str(tmp_path / "weights"))
    teacher = fill(build("mn01_as", n_classes=527, weights="none"))
    place = locate_file(CATALOGUE["mn01_as"].published)
    place.parent.mkdir(parents=True)
    torch.save(teacher.state_dict(), place)
    return teacher.eval()


def fill(teacher):
    """Give normalisations statistics of their own, so that folding them could go wrong."""
    torch.manual_seed(0)
    for norm in (each for each in teacher.modules() if isinstance(each, torch.nn.BatchNorm2d)):
        norm.running_var.uniform_(0.01, 0.1)
        norm.running_mean.normal_(std=0.1)
        torch.nn.init.normal_(norm.bias, std=0.1)
    return teacher


@pytest.fixture
def store(corpus, tmp_path):
    """A store with a teacher of split 25."""
    store, teacher = LogitStore(tmp_path / "store"), fill(build_small())
    store.write_clips(corpus.name, corpus.clips_table())
    weights = safetensors.torch.save(teacher.state_dict())
    store.objects.write(locate_weights("teacher", MEMBER), weights)
    record = {
        "kind": "teacher",
        "protocol": "honest",
        "recipe": asdict(RECIPE),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    logits_NK = np.zeros((len(corpus), 3))
    store.write(LogitKey(corpus.name, 25, MEMBER), logits_NK, record)
    store.write(LogitKey(corpus.name, 25, "foreign-0"), logits_NK, {"kind": "imported"})
    return store


def build_small():
    return build(RECIPE.model, n_classes=3, weights="none", **RECIPE.arguments)


def assert_near(found_nD, expected_nD):
    # Random weights make values of any size.
    atol = 1e-4 * np.abs(expected_nD).max()
    np.testing.assert_allclose(found_nD, expected_nD, rtol=0, atol=atol)
    assert np.ptp(expected_nD, axis=0).max() > 100 * atol


def feed_of(corpus, backbone):
    augmentation = stored_views(backbone.sample_rate)
    length = backbone.choose_length(corpus.clip_duration_s)
    return Feed.open(corpus, backbone.front_end, augmentation, None, CPU, length)


@torch.no_grad()
def test_a_published_network_gives_its_embedding_of_each_view(published, corpus):
    backbone = pickle.loads(pickle.dumps(find_backbone("mn01_as")))
    rows = np.array([40, 3, *range(11)])
    embedder = Embedder.open(backbone, corpus, CPU)
    for view in (0, 2):
        found_nD = embedder.embed(rows, view)
        inputs_BCFT = feed_of(corpus, backbone).make_view(rows, view)
        expected_nD = published(inputs_BCFT)[1].numpy()
        assert found_nD.dtype == np.float32
        assert_near(found_nD, expected_nD)


def test_the_record_names_the_weights_that_were_used(published, corpus):
    backbone = find_backbone("mn01_as")
    record = Embedder.open(backbone, corpus, CPU).describe()
    file = locate_file(CATALOGUE["mn01_as"].published)
    assert record["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record["weights"] == CATALOGUE["mn01_as"].published == backbone.identity["weights"]
    assert record["front_end"] == asdict(backbone.front_end)


@torch.no_grad()
def test_a_teacher_of_the_store_hears_what_its_recipe_says(store, corpus):
    backbone = find_backbone(MEMBER, store=store)
    rows = np.arange(5)
    found_nD = Embedder.open(backbone, corpus, CPU, store=store).embed(rows)
    teacher = fill(build_small()).eval()
    weights = store.objects.fetch(locate_weights("teacher", MEMBER))
    teacher.load_state_dict(safetensors.torch.load_file(weights))
    inputs_BCFT = feed_of(corpus, backbone).make_view(rows, 0)
    assert inputs_BCFT.shape[3] == RECIPE.front_end.count_frames(16_000)
    assert_near(found_nD, teacher(inputs_BCFT)[1].numpy())


def test_changed_weights_of_a_stored_teacher_are_refused(store):
    backbone = find_backbone(MEMBER, store=store)
    weights = safetensors.torch.save(build_small().state_dict())
    store.objects.write(locate_weights("teacher", MEMBER), weights)
    with pytest.raises(DamagedFile, match="SHA-256"):
        backbone.open(CPU, store)


def test_a_stored_teacher_serves_only_the_split_whose_labels_it_learnt(store, corpus):
    backbone = find_backbone(MEMBER, store=store)
    check_learnt(backbone, corpus.name, 25)
    check_learnt(backbone, "another", 5)
    for split in (5, 100):
        with pytest.raises(
            LeakyBackbone, match=f"learnt split 25 of corpus {corpus.name}.*--splits 25"
        ):
            check_learnt(backbone, corpus.name, split)


def test_cross_fitted_heads_are_refused_on_a_teacher_that_learnt_all_their_clips(store, corpus):
    backbone = find_backbone(MEMBER, store=store)
    with pytest.raises(LeakyBackbone, match="that --cross-fit 5 keeps back: leave out --cross-fit"):
        check_learnt(backbone, corpus.name, 25, cross_fit=5)
    check_learnt(backbone, "another", 25, cross_fit=5)


def test_a_teacher_that_has_predicted_a_pool_has_learnt_its_corpus(store, corpus):
    pool = "a_pool_whose_name_comes_first"
    store.write_clips(pool, corpus.clips_table())
    record = store.read_record(LogitKey(corpus.name, 25, MEMBER))
    record |= {"pool": pool, "learnt_corpus": corpus.name}
    store.write(LogitKey(pool, 25, MEMBER), np.zeros((len(corpus), 3)), record)
    with pytest.raises(LeakyBackbone, match=f"learnt split 25 of corpus {corpus.name}"):
        check_learnt(find_backbone(MEMBER, store=store), corpus.name, 5)


def test_a_teacher_has_learnt_what_it_started_from(store, corpus):
    record = store.read_record(LogitKey(corpus.name, 25, MEMBER)) | {"start": MEMBER}
    store.write_clips("another", corpus.clips_table())
    store.write(LogitKey("another", 5, "second-0"), np.zeros((len(corpus), 3)), record)
    backbone = find_backbone("second-0", store=store)
    check_learnt(backbone, "another", 5)
    for split, name in ((100, corpus.name), (25, "another")):
        with pytest.raises(LeakyBackbone, match=f"of corpus {name}"):
            check_learnt(backbone, name, split)


def test_weights_that_learnt_tau_are_refused_on_tau():
    backbone = find_backbone("passt_dirfms_1")
    with pytest.raises(LeakyBackbone, match="learnt all training clips of corpus tau"):
        check_learnt(backbone, "tau", 100)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mn10_ass", r"no backbone mn10_ass, and store .* nearest are .*mn10_as"),
        ("cpr_128", "backbone cpr_128 has no published weights"),
        ("foreign-0", "backbone foreign-0 is no teacher with weights .* but imported"),
    ],
)
def test_what_is_no_backbone_is_refused(name, message, store):
    with pytest.raises(UnknownBackbone, match=message):
        find_backbone(name, store=store)


def test_names_and_fingerprints_are_fit_for_paths_and_stay():
    names = [name_backbone(find_backbone(name)) for name in ("aisfx", "mn40_as(2)")]
    assert names == ["aisfx-5df3f6db3654", names[1]]
    assert names[1].startswith("mn40_as_2-")


def test_clips_are_brought_to_a_length_that_the_network_takes(corpus):
    aisfx, passt = find_backbone("aisfx"), find_backbone("passt")
    assert aisfx.choose_length(1.0) == ClipLength(how="repeat", duration_s=2.32)
    assert aisfx.choose_length(10.0) == passt.choose_length(1.0) == ClipLength()
    crop = passt.choose_length(30.0)
    n_samples = crop.count_samples(30.0, passt.sample_rate)
    assert passt.front_end.count_frames(n_samples) == CATALOGUE["passt"].longest_frames
    odd = replace(passt, length=ClipLength(how="crop", duration_s=5.0))
    with pytest.raises(UnfitClips, match=r"backbone passt: clips of 1 s \(corpus tau\) do not fit"):
        odd.check_clips(corpus)
