import functools
import re
from dataclasses import replace

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from c_students import needs_gcc, needs_vnni
from tiny import FRONT_END, RECIPE
from tiny_student import CPU, TINY_STUDENT, open_store

from audio.clips import Corpus
from metrics import log_loss, mean_average_precision
from students import build, drop_teachers, int8, runtime
from students.c.ram import measure_ram
from students.complexity import OverBudget
from students.device.measure import measure_device
from students.device.options import DeviceOptions
from students.distill import distill
from students.errors import NoPlan
from students.export import convert, onnx_file
from students.export.__main__ import main
from students.export.export import export_student
from students.export.measure import compare_with_torch
from students.export.options import ExportOptions, UnfitExportOptions
from students.int8 import train_in_int8
from students.quantise import ActivationRange
from students.ram import make_untrained_model
from students.recipe import Int8Recipe
from students.stored import load_student

TINY = replace(TINY_STUDENT, training=replace(RECIPE, max_epochs=10, peak_learning_rate=1e-2))


@pytest.fixture(scope="module")
def stored(tmp_path_factory, corpus):
    """A store with a student that was trained on its corpus, and the student's key."""
    with open_store(tmp_path_factory.mktemp("store"), corpus) as store:
        recipe = drop_teachers(TINY)
        yield store, distill(recipe, corpus, 100, 0, store, None, responses=None, device=CPU)


@pytest.fixture(scope="module", autouse=True)
def convert_once():
    """Let PyTorch convert the same model only once: each time takes seconds."""
    models, original = {}, onnx_file.convert_student

    def convert_student(student, input_shape):
        numbers = [tensor.numpy().tobytes() for tensor in student.state_dict().values()]
        key = str(student), tuple(input_shape), *numbers
        if key not in models:
            models[key] = original(student, input_shape)
        return models[key]

    with pytest.MonkeyPatch.context() as patch:
        convert_front_end = functools.cache(onnx_file.convert_front_end)
        patch.setattr(onnx_file, "convert_front_end", convert_front_end)
        patch.setattr(onnx_file, "convert_student", convert_student)
        yield


@pytest.fixture(scope="module")
def exported(stored, corpus, tmp_path_factory):
    """Export the student in a form, once: return the file and the measurements."""
    store, key = stored
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(form, **changed):
        file = folder / f"{'-'.join((form, *changed))}.onnx"
        options = make_options(store, key, file, form=form, **changed)
        return file, export_student(options, store, corpus, key)

    return export


def make_options(store, key, to, **changed):
    return ExportOptions(member=key.member, store=store.address, to=to, corpus="tau", **changed)


@pytest.mark.parametrize(
    ("form", "nearest", "bytes_per_weight"),
    [("onnx", 1e-4, 4), ("onnx-fp16", 0.02, 2), ("onnx-int8", 0.5, 1)],
)
def test_an_export_agrees_with_torch_and_is_as_accurate(
    exported, corpus, form, nearest, bytes_per_weight
):
    file, measured = exported(form)
    assert measured.judged_clips == len(corpus.rows(100, "select"))
    assert measured.compared_clips == len(corpus.rows(100, "test"))
    assert measured.max_difference < nearest
    assert measured.agreement > 0.9
    assert measured.accuracy >= measured.torch_accuracy - 0.1
    assert measured.torch_accuracy > 0.6
    assert measured.file_bytes == file.stat().st_size
    assert measured.front_end_bytes == 0
    assert measured.latency_s > 0
    model = onnx.load(file)
    tiny = build("isotropic", n_classes=3, **TINY.arguments)
    n_weights = sum(p.numel() for _, p in tiny.named_parameters() if p.ndim > 1)
    assert bytes_per_weight * n_weights < measured.parameter_bytes
    assert measured.parameter_bytes == sum(
        onnx.numpy_helper.to_array(each).nbytes for each in model.graph.initializer
    )
    assert str(file.parent) not in str(model)
    assert __file__.rpartition("/tests/")[0] not in str(model)


def test_a_file_with_its_front_end_says_what_it_takes_and_takes_any_batch(stored, corpus, exported):
    key = stored[1]
    file, measured = exported("onnx-fp16", with_front_end=True)
    assert measured.max_difference < 0.02
    assert 0 < measured.front_end_bytes < measured.file_bytes
    assert measured.parameter_bytes < measured.file_bytes - measured.front_end_bytes
    student = runtime.load_exported(file)
    assert student.classes == corpus.scenes
    assert (student.sample_rate, student.clip_samples) == (8_000, 8_000)
    assert student.takes_waveforms
    metadata = student.session.get_modelmeta().custom_metadata_map
    assert metadata["member"] == f'"{key.member}"'
    assert '"mel_bands": 24' in metadata["front_end"]
    for n_clips in (1, 5):
        assert student.compute_logits(np.zeros((n_clips, 8_000), dtype=np.float32)).shape == (
            n_clips,
            3,
        )


def test_labels_of_the_test_fold_change_nothing(stored, corpus, exported, tmp_path, monkeypatch):
    store, key = stored
    _, honest = exported("onnx-int8")
    labels_N = corpus.labels()
    labels_N[corpus.rows(100, "test")] = 99
    monkeypatch.setattr(Corpus, "labels", lambda self: labels_N)
    options = make_options(store, key, tmp_path / "student.onnx")
    blind = export_student(options, store, corpus, key)
    assert replace(blind, latency_s=0) == replace(honest, latency_s=0)
    assert honest.accuracy > 0.6


def test_where_clips_have_several_labels_an_export_is_judged_by_map_and_log_loss(
    stored, corpus, tmp_path
):
    store, key = stored
    scenes = [f"|{scene}|" for scene in corpus.column("scene")]
    scenes[:4] = ["|", "|", "|bus|park|", "|bus|park|"]
    place = corpus.table.column_names.index("scene")
    several = replace(corpus, table=corpus.table.set_column(place, "scene", pa.array(scenes)))
    assert several.scenes == corpus.scenes
    file = tmp_path / "student.onnx"
    measured = export_student(make_options(store, key, file, form="onnx"), store, several, key)
    rows = several.rows(100, "select")
    logits_NK, truth_NK = store.read([key])[0][rows], several.truth()[rows]
    assert measured.accuracy == pytest.approx(mean_average_precision(logits_NK, truth_NK), abs=0.01)
    assert measured.log_loss == pytest.approx(log_loss(logits_NK, truth_NK), abs=1e-3)
    assert measured.agreement > 0.9
    said = measured.describe()
    assert f"mAP on the {len(rows)} select clips" in said
    assert "accuracy" not in said
    assert runtime.load_exported(file).has_several_labels


@pytest.fixture(scope="module")
def tuned_in_int8(stored, corpus):
    """The key of the same student after it was fine-tuned in int8."""
    store, key = stored
    return train_in_int8(
        key,
        Int8Recipe(epochs=2, learning_rate=1e-3),
        corpus,
        store,
        None,
        responses=None,
        device=CPU,
    )


def test_learnt_ranges_are_those_of_the_file(stored, corpus, tuned_in_int8, tmp_path, monkeypatch):
    store, key = stored[0], tuned_in_int8
    monkeypatch.setattr(int8, "calibrate", None)
    file = tmp_path / "student.onnx"
    measured = export_student(make_options(store, key, file), store, corpus, key)
    assert measured.counted_bytes == load_student(store, stored[1], 3).params.total
    scales = {
        float(onnx.numpy_helper.to_array(each))
        for each in onnx.load(file).graph.initializer
        if each.name.endswith("scale") and not each.dims
    }
    student = load_student(store, key, 3).student
    steps = [m.compute_grid()[0] for m in student.modules() if isinstance(m, ActivationRange)]
    assert len(scales) > 2
    assert scales <= {float(step) for step in steps}
    # Compared with its own simulation; a sum between two integers may be rounded to either.
    assert measured.max_difference < 0.2
    assert measured.agreement > 0.9


@needs_gcc
@needs_vnni
def test_a_student_that_was_tuned_in_int8_is_a_program_with_the_ranges_that_it_learnt(
    stored, corpus, tuned_in_int8, tmp_path, monkeypatch
):
    store, key = stored[0], tuned_in_int8
    monkeypatch.setattr(int8, "calibrate", None)
    options = make_options(store, key, tmp_path / "c", form="c")
    measured = export_student(options, store, corpus, key)
    student = load_student(store, key, 3).student
    first = next(each for each in student.modules() if isinstance(each, ActivationRange))
    (scale,) = re.findall(r"STUDENT_INPUT_SCALE (\S+)f\b", (options.to / "student.h").read_text())
    assert np.float32(scale) == first.compute_grid()[0].numpy()
    on_host = measure_device(
        DeviceOptions(
            student=options.to / "student.c", board="host", corpus="tau", root=corpus.root, clips=8
        )
    )
    assert (on_host.max_difference, on_host.agreement) == (0, 1)
    assert f"by the memory plan of its C program: {measured.ram:,} bytes" in measured.describe()


@pytest.mark.parametrize("form", ["onnx", "onnx-fp16"])
def test_a_student_that_was_tuned_in_int8_has_no_other_form(
    stored, corpus, tuned_in_int8, tmp_path, form
):
    store, key = stored[0], tuned_in_int8
    options = make_options(store, key, tmp_path / "f", form=form)
    message = f"fine-tuned in int8 and is exact only there, not as {form}"
    with pytest.raises(UnfitExportOptions, match=message):
        export_student(options, store, corpus, key)
    assert list(tmp_path.iterdir()) == []


def test_before_a_student_is_trained_its_model_has_the_same_operators_shapes_and_ram(
    stored, corpus, exported
):
    file, measured = exported("onnx-int8")
    shape = (1, *FRONT_END.compute_shape(FRONT_END.sample_rate))
    state = torch.random.get_rng_state()
    untrained = make_untrained_model(TINY.model, TINY.arguments, input_shape=shape, n_classes=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    graphs = untrained.graph, onnx.load(file).graph
    for take in (
        lambda graph: [(node.op_type, *node.input, *node.output) for node in graph.node],
        lambda graph: [(each.name, each.data_type, *each.dims) for each in graph.initializer],
    ):
        assert take(graphs[0]) == take(graphs[1])
    assert measured.ram == measure_ram(untrained) > 0


def test_a_student_that_needs_more_ram_than_a_device_has_is_not_written(
    stored, corpus, tmp_path, monkeypatch
):
    store, key = stored
    options = make_options(store, key, tmp_path / "student.onnx", max_ram=1)
    with pytest.raises(
        OverBudget, match=f"{key.member} has .* bytes of RAM in int8, .* at most 1:"
    ):
        export_student(options, store, corpus, key)
    with pytest.raises(UnfitExportOptions, match="--max-ram 1 with --form onnx: only the forms"):
        export_student(replace(options, form="onnx"), store, corpus, key)

    def refuse(model):
        raise NoPlan("operator Sin is unknown")

    monkeypatch.setattr(convert, "measure_ram", refuse)
    with pytest.raises(NoPlan, match=f"{key.member}.* has no memory plan: operator Sin is unknown"):
        export_student(options, store, corpus, key)
    assert list(tmp_path.iterdir()) == []
    said = export_student(replace(options, max_ram=None), store, corpus, key).describe()
    assert "RAM on a device: unknown, because C has no form of it: operator Sin" in said


@pytest.mark.parametrize(("form", "bits"), [("onnx", 32), ("onnx-fp16", 16), ("onnx-int8", 8)])
def test_a_student_is_held_to_its_parameters_times_bits_whatever_its_file_adds(
    stored, corpus, exported, tmp_path, form, bits
):
    store, key = stored
    n_bytes = load_student(store, key, 3).params.total * bits // 8
    options = make_options(store, key, tmp_path / "student.onnx", form=form, max_bytes=n_bytes - 1)
    expected = f"student {key.member} has {n_bytes:,} bytes .* at most {n_bytes - 1:,}:"
    with pytest.raises(OverBudget, match=expected):
        export_student(options, store, corpus, key)
    assert list(tmp_path.iterdir()) == []
    _, measured = exported(form)
    assert measured.counted_bytes == n_bytes < measured.file_bytes


@pytest.mark.parametrize(
    ("form", "max_bytes", "limit"),
    [
        ("onnx", None, None),
        ("onnx", 500_000, 500_000),
        ("onnx-fp16", None, 128_000),
        ("onnx-int8", None, 128_000),
        ("onnx-int8", 90_000, 90_000),
    ],
)
def test_forms_for_devices_have_the_budget_of_the_challenge(tmp_path, form, max_bytes, limit):
    options = ExportOptions(
        member="m", store="s", to=tmp_path / "f", form=form, max_bytes=max_bytes
    )
    assert options.byte_limit == limit


def test_the_command_prints_what_it_measured(stored, corpus, tmp_path, capsys):
    store, key = stored
    file = tmp_path / "student.onnx"
    arguments = ["tiny_alone-", "--store", store.address, "--to", str(file), "--corpus", "tau"]
    assert main([*arguments, "--root", str(corpus.root), "--form", "onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: {key.member} as onnx"
    assert f"on the {len(corpus.rows(100, 'test'))} test clips" in lines[1]
    assert "100.0 % in the same class" in lines[1]
    assert f"macro accuracy on the {len(corpus.rows(100, 'select'))} select clips" in lines[2]
    assert f"as the challenge counts them; the file has {file.stat().st_size:,}" in lines[3]
    assert lines[4].startswith("one clip on one core, front-end included:")


def test_an_unknown_member_or_one_of_another_corpus_is_refused(stored, tmp_path, capsys):
    store, key = stored
    arguments = ["--store", store.address, "--to", str(tmp_path / "f")]
    assert main(["nobody", *arguments]) == 1
    assert "no member 'nobody'" in capsys.readouterr().err
    assert main([key.member, *arguments]) == 1
    assert "--corpus is demo: name its own" in capsys.readouterr().err


@pytest.mark.slow
def test_cp_mobile_is_exported_in_int8_as_the_challenge_counts_it(corpus, tmp_path):
    recipe = drop_teachers(replace(TINY, model="cp_mobile_2023", arguments={}))
    recipe = replace(recipe, training=replace(recipe.training, max_epochs=1, max_steps=1))
    with open_store(tmp_path, corpus) as store:
        key = distill(recipe, corpus, 100, 0, store, None, responses=None, device=CPU)
        measured = export_student(make_options(store, key, tmp_path / "f"), store, corpus, key)
    # With 10 classes it has 126,952.
    assert measured.counted_bytes == 125_762
    assert measured.parameter_bytes > 128_000


def test_agreement_counts_clips_in_the_same_class():
    logits = [torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[0.0, 3.0], [0.0, 1.0]])]
    found = compare_with_torch(
        lambda batch: batch, lambda batch: batch * [[1, 0.25]] + [[0.5, 0]], logits
    )
    assert found.max_difference == pytest.approx(2.25)
    assert found.agreement == 0.5


@pytest.fixture(scope="module")
def folder_in_c(stored, corpus, tmp_path_factory):
    """The folder of the student in C with its front-end, and the measurements."""
    store, key = stored
    folder = tmp_path_factory.mktemp("in_c") / "student"
    options = make_options(store, key, folder, form="c", with_front_end=True)
    return folder, export_student(options, store, corpus, key)


def test_the_folder_in_c_has_the_int8_file_as_its_reference(folder_in_c, exported):
    folder, measured = folder_in_c
    file, of_file = exported("onnx-int8", with_front_end=True)
    assert (folder / "student.onnx").read_bytes() == file.read_bytes()
    assert measured.accuracy == of_file.accuracy
    header = (folder / "student.h").read_text()
    assert f"#define STUDENT_ARENA_BYTES {measured.ram}\n" in header
    assert "#define STUDENT_HAS_FRONT_END\n" in header
    # The front-end needs RAM, too.
    assert measured.ram > of_file.ram


def test_the_folder_in_c_is_whole_or_not_there(folder_in_c, stored, corpus, tmp_path, monkeypatch):
    store, key = stored
    options = make_options(store, key, tmp_path / "new" / "student", form="c")
    monkeypatch.setattr("pathlib.Path.rename", lambda *places: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_student(options, store, corpus, key)
    assert list((tmp_path / "new").iterdir()) == []
    assert {each.name for each in folder_in_c[0].iterdir()} >= {
        *("student.c", "student.h", "kernels.h", "numbers.h", "front_end.c", "front_end.h"),
        *("smoothing.h", "main.c", "Makefile", "README.md", "student.onnx"),
    }


def test_a_folder_in_c_replaces_nothing(stored, corpus, tmp_path):
    store, key = stored
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for to, message in (
        (tmp_path, "is not empty \\(it has notes.txt\\)"),
        (file, "is a file, and --form c writes a folder"),
    ):
        with pytest.raises((OSError, UnfitExportOptions), match=message):
            export_student(make_options(store, key, to, form="c"), store, corpus, key)
    with pytest.raises(UnfitExportOptions, match="is a folder, and --form onnx-int8 writes a file"):
        export_student(make_options(store, key, tmp_path), store, corpus, key)
    assert file.read_text() == "mine"


def test_a_program_that_needs_more_ram_than_allowed_is_not_written(stored, corpus, tmp_path):
    store, key = stored
    options = make_options(store, key, tmp_path / "student", form="c", max_ram=100)
    with pytest.raises(OverBudget, match="expected at most 100"):
        export_student(options, store, corpus, key)
    assert not (tmp_path / "student").exists()
