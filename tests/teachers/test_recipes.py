import pytest
import torch

from audio.corpora import demo
from teachers import RECIPES, build
from teachers.finetune import teacher_key
from teachers.recipes import DEMO, PUBLISHED


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_a_model_that_takes_its_front_ends_output(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    model = build(recipe.model, n_classes=7, **recipe.arguments).eval()
    with torch.no_grad():
        logits_BK, embedding_BD = model(torch.zeros(2, *recipe.front_end.shape(32_000)))
    assert logits_BK.shape == (2, 7)
    assert embedding_BD.shape[0] == 2


def test_there_is_a_published_and_a_demo_recipe_of_each_family():
    assert PUBLISHED == ("mn10_as_dir_fms", "dymn10_as_dir_fms", "passt_dir_fms", "cpr_128_dir_fms")
    assert DEMO == ("demo_mn", "demo_dymn", "demo_passt", "demo_cpr")
    assert [RECIPES[name].model for name in DEMO] == [RECIPES[name].model for name in PUBLISHED]


def test_a_member_is_named_by_everything_that_changes_it(tmp_path):
    corpus = demo.read()
    recipe = RECIPES["demo_cpr"]
    (tmp_path / "ir.wav").write_bytes(b"any")
    keys = [
        teacher_key(recipe, corpus, 25, 0, None),
        teacher_key(recipe, corpus, 100, 0, None),
        teacher_key(recipe, corpus, 25, 1, None),
        teacher_key(recipe, corpus, 25, 0, tmp_path),
        teacher_key(recipe, corpus.keep(corpus.column("clip_id")[:-1]), 25, 0, None),
        teacher_key(RECIPES["cpr_128_dir_fms"], corpus, 25, 0, None),
    ]
    assert len({key.member for key in keys}) == len(keys)
    assert teacher_key(recipe, demo.read(), 25, 0, None) == keys[0]
    assert keys[0].member.startswith("demo_cpr-")
