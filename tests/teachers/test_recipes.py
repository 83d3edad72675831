import functools
from dataclasses import replace

import pytest
import torch

from audio.corpora import demo
from audio.lengths import ClipLength
from redact import strip_secrets
from teachers import RECIPES, TeacherRun, build
from teachers.errors import UnfitClips
from teachers.private import PrivateWeights
from teachers.recipes import (
    DEMO_TEACHERS,
    PUBLISHED_TEACHERS,
    find_teacher_recipes,
    keep_as_published,
)
from teachers.run import check_input, make_teacher_key
from training import WarmupCosine

# The defaults of ASCDomain's four training scripts, one row each.
SCRIPTS = {
    "mn": (150, 256, 2e-4, 0.4, 0.3, 0.6, 48, 0),
    "dymn": (150, 256, 2e-4, 0.4, 0.3, 0.6, 48, 0),
    "passt": (25, 80, 5e-5, 0.4, 0.4, 0.6, 48, 20),
    "cpr": (150, 256, 5e-3, 0.8, 0.4, 0.4, 48, 0),
}


@functools.cache
def built(model, arguments):
    return build(model, n_classes=7, weights="none", **dict(arguments)).eval()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_a_model_that_takes_its_front_ends_output(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    model = built(recipe.model, tuple(recipe.arguments.items()))
    n_samples = recipe.front_end.sample_rate
    with torch.no_grad():
        logits_BK, embedding_BD = model(torch.zeros(2, *recipe.front_end.compute_shape(n_samples)))
    assert logits_BK.shape == (2, 7)
    assert embedding_BD.shape[0] == 2


def test_the_22_published_names_are_there():
    mn = [
        f"{width}_as_dir_fms{ending}"
        for width in ("mn04", "mn05", "mn10")
        for ending in ("", "_lr", "_lr2", "_early", "_early2")
    ]
    dymn = [
        f"{width}_as_dir_fms{ending}" for width in ("dymn04", "dymn10") for ending in ("", "_lr")
    ]
    others = ["passt_dir_fms", "passt_dir_fms_lr_ws", "cpr_128_dir_fms"]
    assert list(PUBLISHED_TEACHERS) == mn + dymn + others
    assert len(PUBLISHED_TEACHERS) == 22


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("mn04_as_dir_fms_early", "mn"),
        ("dymn10_as_dir_fms", "dymn"),
        ("passt_dir_fms", "passt"),
        ("cpr_128_dir_fms", "cpr"),
    ],
)
def test_the_numbers_are_those_of_the_published_scripts(name, script):
    recipe = RECIPES[name]
    training, augmentation = recipe.training, recipe.augmentation
    assert (
        training.max_epochs,
        training.batch_size,
        training.peak_learning_rate,
        augmentation.mixstyle_probability,
        augmentation.mixstyle_alpha,
        augmentation.impulse_response_probability,
        augmentation.max_masked_bands,
        augmentation.max_masked_frames,
    ) == SCRIPTS[script]
    assert (training.schedule, training.weight_decay) == (WarmupCosine(warmup_steps=2000), 1e-3)
    assert augmentation.max_roll_samples == 3200


def test_no_two_recipes_are_the_same():
    without_names = {repr(replace(recipe, name="")) for recipe in RECIPES.values()}
    assert len(without_names) == len(RECIPES)


def test_there_is_a_demo_recipe_of_each_family():
    assert DEMO_TEACHERS == ("demo_mn", "demo_dymn", "demo_passt", "demo_cpr")
    assert all(RECIPES[name].weights == "none" for name in DEMO_TEACHERS)


def test_recipes_are_found_by_name_glob_and_all_each_once():
    assert [recipe.name for recipe in find_teacher_recipes(["all"])] == list(PUBLISHED_TEACHERS)
    names = [
        recipe.name
        for recipe in find_teacher_recipes(["*_early", "mn04_as_dir_fms_early", "demo_mn"])
    ]
    assert names == [f"{width}_as_dir_fms_early" for width in ("mn04", "mn05", "mn10")] + [
        "demo_mn"
    ]
    with pytest.raises(ValueError, match="no teacher recipe mn10_as_dir_fsm; nearest: mn10_as_dir"):
        find_teacher_recipes(["mn10_as_dir_fsm"])


def test_a_timm_backbone_is_a_recipe_by_its_name():
    (recipe,) = find_teacher_recipes(["timm:convnext_nano"])
    assert (recipe.name, recipe.model) == ("timm_convnext_nano", "timm:convnext_nano")
    assert recipe.weights == "pretrained"


def test_the_published_protocol_keeps_the_last_epoch_of_a_dymn():
    assert keep_as_published(RECIPES["dymn04_as_dir_fms"]).training.keep == "last"
    assert keep_as_published(RECIPES["mn04_as_dir_fms_early"]).training.keep == "best"


def test_incremental_transfer_has_two_learning_rates_in_both_stages():
    sit, sequential = RECIPES["passt_sit"], RECIPES["passt_sequential"]
    for recipe in (sit, sit.first_stage):
        assert recipe.training.head_learning_rate == 1e-3 > recipe.training.peak_learning_rate
    for recipe in (sequential, sequential.first_stage, RECIPES["passt_standard"]):
        assert recipe.training.head_learning_rate is None
    assert RECIPES["passt_standard"].first_stage is None


def test_a_member_is_named_by_everything_that_changes_it(tmp_path):
    corpus = demo.read()
    run = TeacherRun(recipe=RECIPES["demo_cpr"], split=25)
    fewer = corpus.keep(corpus.column("clip_id")[:-1])
    (tmp_path / "ir.wav").write_bytes(b"any")
    sit = TeacherRun(recipe=RECIPES["passt_sit"], split=25, start="one")
    keys = [
        make_teacher_key(run, corpus, None),
        make_teacher_key(replace(run, split=100), corpus, None),
        make_teacher_key(replace(run, seed=1), corpus, None),
        make_teacher_key(replace(run, protocol="published"), corpus, None),
        make_teacher_key(run, corpus, tmp_path),
        make_teacher_key(run, fewer, None),
        make_teacher_key(replace(run, recipe=RECIPES["cpr_128_dir_fms"]), corpus, None),
        make_teacher_key(sit, corpus, None),
        make_teacher_key(replace(sit, start="other"), corpus, None),
    ]
    assert len({key.member for key in keys}) == len(keys)
    assert make_teacher_key(run, demo.read(), None) == keys[0]
    assert keys[0].member.startswith("demo_cpr-")
    with pytest.raises(ValueError, match="starts from None"):
        make_teacher_key(replace(sit, start=None), corpus, None)


def test_weights_at_a_private_address_are_named_by_their_hash_and_their_public_address():
    corpus, recipe = demo.read(), RECIPES["demo_cpr"]

    def name(address: str, sha256: str) -> str:
        private = PrivateWeights(address=address, sha256=sha256)
        public = replace(recipe, weights=strip_secrets(address))
        run = TeacherRun(recipe=public, split=25, private_weights=private)
        assert "plant" not in repr(run)
        return make_teacher_key(run, corpus, None).member

    first = name("https://b.org/mn.pt?sig=plant-one", "aa")
    assert name("https://anna:plant-two@b.org/mn.pt?sig=three", "aa") == first
    assert name("https://b.org/mn.pt?sig=plant-one", "bb") != first
    assert name("https://b.org/other.pt?sig=plant-one", "aa") != first
    secret = replace(recipe, weights="https://b.org/mn.pt?sig=plant-one")
    with pytest.raises(ValueError, match="give it as TeacherRun.private_weights"):
        make_teacher_key(TeacherRun(recipe=secret, split=25), corpus, None)


@pytest.mark.parametrize(
    ("weights", "fingerprint"),
    [
        ("none", "9e25d502504b"),
        ("https://host.org/v1/mn.pt", "95182834aa9e"),
        ("s3://weights/v1/mn.pt", "59c23b60c47d"),
        ("https://host.org:8080/@v1/mn.pt#part", "8a190ac5601e"),
    ],
)
def test_weights_without_secrets_keep_the_names_of_their_results(weights, fingerprint):
    run = TeacherRun(recipe=replace(RECIPES["demo_cpr"], weights=weights), split=25)
    assert make_teacher_key(run, demo.read(), None).member == f"demo_cpr-{fingerprint}"


def test_clips_that_a_model_does_not_take_are_refused_before_any_work():
    long = replace(demo.read(), clip_duration_s=11.0)
    recipe = RECIPES["passt_dir_fms"]
    with pytest.raises(UnfitClips, match=r"11 s .* 1101 frames; passt takes 16 to 1005.*--length"):
        check_input(recipe, long)
    check_input(replace(recipe, length=ClipLength(how="crop", duration_s=10.0)), long)
    check_input(RECIPES["mn10_as_dir_fms"], long)
    wrong = replace(recipe, front_end=RECIPES["mn10_as_dir_fms"].front_end)
    with pytest.raises(UnfitClips, match="its front-end has 256 mel bands, passt takes 128"):
        check_input(wrong, demo.read())


@pytest.mark.parametrize("duration_s", [1.0, 5.0, 10.0])
@pytest.mark.parametrize("name", ["mn04_as_dir_fms", "dymn04_as_dir_fms", "passt_dir_fms"])
def test_clips_of_one_five_and_ten_seconds_fit_as_they_are(name, duration_s):
    check_input(RECIPES[name], replace(demo.read(), clip_duration_s=duration_s))
