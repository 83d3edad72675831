import functools
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from tiny import AUGMENTATION, FRONT_END, RECIPE, tiny_corpus
from torch import nn

from audio.clips import Corpus
from audio.log_mel import FrontEnd, LogMel
from logit_store import LogitStore
from students import (
    ARCHITECTURES,
    StudentRecipe,
    alone,
    build,
    export,
    int8,
    onnx_file,
    onnx_int8,
    runtime,
)
from students.complexity import OverBudget
from students.distill import distill
from students.export import Options, UnfitOptions
from students.int8 import Int8Recipe, learn_in_int8
from students.quantise import ActivationRange, calibrate, quantised, unrounded
from students.recipes import Distillation
from students.stored import load

TINY = StudentRecipe(
    name="tiny",
    model="isotropic",
    arguments={"filters": 8, "depth": 2, "patch": 4},
    front_end=FRONT_END,
    augmentation=AUGMENTATION,
    training=replace(RECIPE, max_epochs=10, peak_learning_rate=1e-2),
    distillation=Distillation(),
    device_loss_weight=0.0,
)
DELTAS = FrontEnd(
    sample_rate=8_000,
    n_fft=256,
    window_samples=256,
    hop_samples=100,
    mel_bands=16,
    max_hz=4_000.0,
    mel_bank="htk_slaney_norm",
    log="log10",
    log_offset=1e-10,
    standardise=True,
    delta=True,
)
EMPHASIS = FrontEnd(
    sample_rate=8_000,
    n_fft=256,
    window_samples=200,
    hop_samples=80,
    mel_bands=16,
    max_hz=3_900.0,
    mel_bank="kaldi",
    window="symmetric",
    pre_emphasis=0.97,
    shift=4.5,
    scale=5.0,
)
FACTS = {"classes": ["a", "b"], "sample_rate": 8_000, "clip_samples": 8_000}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def stored(tmp_path_factory, corpus):
    """A store with a student that has learnt its corpus, and its key."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(folder / "cache"))
        store = LogitStore(folder / "store")
        store.write_clips("tau", corpus.clips_table())
        key = distill(
            alone(TINY), corpus, 100, 0, store, None, responses=None, device=torch.device("cpu")
        )
        yield store, key


@pytest.fixture(scope="module", autouse=True)
def each_once():
    """Let PyTorch export the same numbers once: again takes seconds."""
    models, original = {}, onnx_file.student_model

    def student_model(student, input_shape):
        numbers = [tensor.numpy().tobytes() for tensor in student.state_dict().values()]
        asked = str(student), tuple(input_shape), *numbers
        if asked not in models:
            models[asked] = original(student, input_shape)
        return models[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "front_end_model", functools.cache(onnx_file.front_end_model))
        patch.setattr(onnx_file, "student_model", student_model)
        yield


def options(store, key, to, **changed):
    return Options(member=key.member, store=store.address, to=to, corpus="tau", **changed)


@pytest.mark.parametrize(
    "front_end", [FRONT_END, DELTAS, EMPHASIS], ids=["plain", "deltas", "emphasis"]
)
def test_log_mels_of_the_front_end_inside_are_those_of_torch(front_end):
    model = onnx_file.front_end_model(front_end, 8_000)
    facts = FACTS | {"takes_waveforms": True}
    exported = runtime.load(onnx_file.labelled(model, facts))
    waveforms_BS = 0.1 * torch.randn(3, 8_000, generator=torch.Generator().manual_seed(0))
    expected = LogMel(front_end)(waveforms_BS).numpy()
    np.testing.assert_allclose(exported.logits(waveforms_BS.numpy()), expected, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(
        exported.logits(waveforms_BS[1:2].numpy()), exported.logits(waveforms_BS.numpy())[1:2]
    )


@pytest.mark.parametrize(
    ("form", "nearest", "bytes_per_weight"),
    [("onnx", 1e-4, 4), ("onnx-fp16", 0.02, 2), ("onnx-int8", 0.5, 1)],
)
def test_an_export_agrees_with_torch_and_judges_as_well(
    stored, corpus, tmp_path, form, nearest, bytes_per_weight
):
    store, key = stored
    file = tmp_path / "student.onnx"
    figures = export.export(options(store, key, file, form=form), store, corpus, key)
    assert figures.judged_clips == len(corpus.rows(100, "select"))
    assert figures.compared_clips == len(corpus.rows(100, "test"))
    assert figures.max_difference < nearest
    assert figures.agreement > 0.9
    assert figures.accuracy >= figures.torch_accuracy - 0.1
    assert figures.torch_accuracy > 0.6
    assert figures.file_bytes == file.stat().st_size
    assert figures.front_end_bytes == 0
    assert figures.latency_s > 0
    model = onnx.load(file)
    n_weights = sum(p.numel() for n, p in build_tiny().named_parameters() if p.ndim > 1)
    assert bytes_per_weight * n_weights < figures.parameter_bytes
    assert figures.parameter_bytes == sum(
        onnx.numpy_helper.to_array(each).nbytes for each in model.graph.initializer
    )
    assert str(tmp_path) not in str(model)
    assert __file__.rpartition("/tests/")[0] not in str(model)


def build_tiny():
    return build("isotropic", n_classes=3, **TINY.arguments)


def test_a_file_with_its_front_end_says_what_it_takes_and_takes_any_batch(stored, corpus, tmp_path):
    store, key = stored
    file = tmp_path / "student.onnx"
    asked = options(store, key, file, form="onnx-fp16", with_front_end=True)
    figures = export.export(asked, store, corpus, key)
    assert figures.max_difference < 0.02
    assert 0 < figures.front_end_bytes < figures.file_bytes
    assert figures.parameter_bytes < figures.file_bytes - figures.front_end_bytes
    exported = runtime.load(file)
    assert exported.classes == corpus.scenes
    assert (exported.sample_rate, exported.clip_samples) == (8_000, 8_000)
    assert exported.takes_waveforms
    told = exported.session.get_modelmeta().custom_metadata_map
    assert told["member"] == f'"{key.member}"'
    assert '"mel_bands": 24' in told["front_end"]
    for n_clips in (1, 5):
        assert exported.logits(np.zeros((n_clips, 8_000), dtype=np.float32)).shape == (n_clips, 3)


def test_labels_of_the_test_fold_change_nothing(stored, corpus, tmp_path, monkeypatch):
    store, key = stored
    asked = options(store, key, tmp_path / "student.onnx")
    honest = export.export(asked, store, corpus, key)
    labels_N = corpus.labels()
    labels_N[corpus.rows(100, "test")] = 99
    monkeypatch.setattr(Corpus, "labels", lambda self: labels_N)
    blind = export.export(asked, store, corpus, key)
    assert replace(blind, latency_s=0) == replace(honest, latency_s=0)
    assert honest.accuracy > 0.6


@pytest.fixture(scope="module")
def learnt_in_int8(stored, corpus):
    """The key of the same student after it learnt on in int8."""
    store, key = stored
    return learn_in_int8(
        key,
        Int8Recipe(epochs=2, learning_rate=1e-3),
        corpus,
        store,
        None,
        responses=None,
        device=torch.device("cpu"),
    )


def test_ranges_that_were_learnt_are_those_of_the_file(
    stored, corpus, learnt_in_int8, tmp_path, monkeypatch
):
    store, key = stored[0], learnt_in_int8
    monkeypatch.setattr(int8, "calibrate", None)
    file = tmp_path / "student.onnx"
    figures = export.export(options(store, key, file), store, corpus, key)
    scales = {
        float(onnx.numpy_helper.to_array(each))
        for each in onnx.load(file).graph.initializer
        if each.name.endswith("scale") and not each.dims
    }
    learnt = load(store, key, 3).student
    steps = [m.grid()[0] for m in learnt.modules() if isinstance(m, ActivationRange)]
    assert len(scales) > 2
    assert scales <= {float(step) for step in steps}
    # Beside its own simulation; a sum that falls between two integers may be rounded to either.
    assert figures.max_difference < 0.2
    assert figures.agreement > 0.9


@pytest.mark.parametrize("form", ["onnx", "onnx-fp16", "executorch"])
def test_a_student_that_learnt_in_int8_has_no_other_form(
    stored, corpus, learnt_in_int8, tmp_path, form
):
    store, key = stored[0], learnt_in_int8
    asked = options(store, key, tmp_path / "f", form=form)
    with pytest.raises(
        UnfitOptions, match=f"learnt in int8 and is exact there only, not as {form}"
    ):
        export.export(asked, store, corpus, key)
    assert list(tmp_path.iterdir()) == []


def test_what_is_over_its_budget_is_not_written(stored, corpus, tmp_path, monkeypatch):
    store, key = stored
    file = tmp_path / "student.onnx"
    with pytest.raises(OverBudget, match=f"student {key.member} has .* at most 100:"):
        export.export(options(store, key, file, max_bytes=100, form="onnx"), store, corpus, key)
    # The parameters would fit into this; the file around them does not.
    monkeypatch.setattr(onnx_file, "parameter_bytes", lambda model: 1)
    with pytest.raises(OverBudget, match=f"student {key.member} has .* at most 3,000:"):
        export.export(options(store, key, file, max_bytes=3_000, form="onnx"), store, corpus, key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "given", "limit"),
    [
        ("onnx", None, None),
        ("onnx-fp16", None, 128_000),
        ("onnx-int8", None, 128_000),
        ("onnx-int8", 90_000, 90_000),
        ("executorch", 500_000, 500_000),
    ],
)
def test_what_is_made_for_the_edge_has_the_challenges_budget(tmp_path, form, given, limit):
    asked = Options(member="m", store="s", to=tmp_path / "f", form=form, max_bytes=given)
    assert asked.byte_limit() == limit


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--form", "executorch", "--with-front-end"], "ExecuTorch has no Fourier transform"),
        (["--calibration-clips", "0"], "--calibration-clips 0: expected 1 or more"),
        (["--max-bytes", "0"], "--max-bytes 0: expected 1 or more"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, capsys, changed, message):
    arguments = ["member", "--store", str(tmp_path), "--to", str(tmp_path / "f"), *changed]
    assert export.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_the_command_prints_what_it_measured(stored, corpus, tmp_path, capsys):
    store, key = stored
    file = tmp_path / "student.onnx"
    arguments = ["tiny_alone-", "--store", store.address, "--to", str(file), "--corpus", "tau"]
    assert export.main([*arguments, "--root", str(corpus.root), "--form", "onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: {key.member} as onnx"
    assert f"on the {len(corpus.rows(100, 'test'))} test clips" in lines[1]
    assert "100.0 % called the same" in lines[1]
    assert f"macro accuracy on the {len(corpus.rows(100, 'select'))} select clips" in lines[2]
    assert f"in a file of {file.stat().st_size:,}" in lines[3]
    assert lines[4].startswith("one clip on one core, front-end included:")


def test_a_member_that_is_not_there_or_of_another_corpus_is_refused(stored, tmp_path, capsys):
    store, key = stored
    arguments = ["--store", store.address, "--to", str(tmp_path / "f")]
    assert export.main(["nobody", *arguments]) == 1
    assert "no member 'nobody'" in capsys.readouterr().err
    assert export.main([key.member, *arguments]) == 1
    assert "--corpus is demo: name its own" in capsys.readouterr().err


SMALLEST = {
    "Isotropic": (1, 24, 16),
    "Recursive": (1, 24, 16),
    "CPMobile": (1, 32, 16),
    "DSMN": (2, 64, 32),
}
"""Inputs (C, F, T) that keep the tests fast: the graphs are those of any size."""


def published(name):
    """A student of the catalogue in which no clip's signal fades, and clips of many levels."""
    torch.manual_seed(0)
    student = build(name, n_classes=10).eval()
    for module in student.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    levels = torch.linspace(0.5, 3, 8).view(-1, 1, 1, 1)
    return student, levels * torch.randn(8, *SMALLEST[type(student).__name__])


def runs(model):
    return runtime.load(onnx_file.labelled(model, FACTS | {"takes_waveforms": False})).logits


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_student_of_the_catalogue_is_exported_as_it_is_and_in_int8(name):
    student, inputs = published(name)
    simulated = quantised(student, (1, *inputs.shape[1:]))
    calibrate(simulated, [inputs])
    model = onnx_file.student_model(unrounded(simulated), (1, *inputs.shape[1:]))
    batches = [inputs[:5], inputs[5:]]
    whole = export.parity(student, runs(model), batches)
    # Between clips: what is the same for all of them says nothing of what the layers do.
    spread = whole.torch_NK.std(axis=0).mean()
    assert whole.max_difference < 1e-4 * spread
    in_int8 = export.parity(simulated, runs(onnx_int8.in_integers(model, simulated)), batches)
    by_rounding = np.std(in_int8.torch_NK - whole.torch_NK)
    # A sum that falls between two integers may be rounded to either, and layers follow; where two
    # branches of a DSMN meet, more often.
    to_simulation = np.std(in_int8.exported_NK - in_int8.torch_NK)
    assert to_simulation < (0.2 if name.startswith("dsmn") else 0.1) * spread
    assert to_simulation < by_rounding
    # So that what is run is no worse than what was simulated.
    assert np.std(in_int8.exported_NK - whole.torch_NK) < 1.25 * by_rounding


def test_parity_counts_what_is_called_the_same():
    logits = [torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[0.0, 3.0], [0.0, 1.0]])]
    found = export.parity(
        lambda batch: batch, lambda batch: batch * [[1, 0.25]] + [[0.5, 0]], logits
    )
    assert found.max_difference == pytest.approx(2.25)
    assert found.agreement == 0.5


def test_without_executorch_its_form_says_what_to_install(stored, corpus, tmp_path, monkeypatch):
    store, key = stored
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    with pytest.raises(ImportError, match="install executorch in the version for torch 2"):
        export.export(
            options(store, key, tmp_path / "f.pte", form="executorch"), store, corpus, key
        )
    assert list(tmp_path.iterdir()) == []


def test_with_executorch_its_programs_agree_with_torch(stored, corpus, tmp_path):
    pytest.importorskip("executorch.exir")
    store, key = stored
    asked = options(store, key, tmp_path / "student.pte", form="executorch")
    figures = export.export(asked, store, corpus, key)
    assert figures.max_difference < 1e-4
    assert figures.agreement == 1
