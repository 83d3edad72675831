"""ONNX files as backbones: what they may take and give."""

import numpy as np
import onnx
import pytest
import tiny
import torch
from onnx import TensorProto, helper

from audio.feed import Feed
from audio.front_ends import ASCDOMAIN_PASST
from audio.views import stored_views
from teachers import DamagedWeights, MissingWeights, UnfitWeights
from teachers.backbones import OnnxInput, UnknownBackbone, find_backbone, name_backbone
from teachers.backbones.embed import Embedder

CPU = torch.device("cpu")
WAVES = OnnxInput(sample_rate=tiny.RATE)
MELS = OnnxInput(front_end="ascdomain_passt")
N_BANDS = ASCDOMAIN_PASST.mel_bands


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny.tiny_corpus(tmp_path_factory.mktemp("corpus"))


def write(file, shape, axes, *, kind=TensorProto.FLOAT, output=("B", None), more=()):
    """Write a network that gives means over `axes`; return its name as a backbone."""
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["embedding"], keepdims=0)
    others = [helper.make_node("Identity", ["embedding"], [name]) for name in more]
    graph = helper.make_graph(
        [mean, *others],
        "means",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, output) for name in ("embedding", *more)],
        [helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, file)
    return f"onnx:{file}"


def write_waves(file, n_clips, n_samples):
    """Write a network that gives means of eight parts of a waveform."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [0, 8, -1])
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["parts"]),
            helper.make_node("ReduceMax", ["parts", "axes"], ["y"], keepdims=0),
        ],
        "parts",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [n_clips, n_samples])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [n_clips, 8])],
        [shape, helper.make_tensor("axes", TensorProto.INT64, [1], [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, file)
    return f"onnx:{file}"


@pytest.mark.parametrize("n_clips", ["B", 1, 5], ids=["any", "one", "five"])
@pytest.mark.parametrize(("n_samples", "heard"), [("S", 8000), (4000, 4000), (9600, 9600)])
def test_waveforms_go_in_whatever_batch_and_length_it_takes(
    n_clips, n_samples, heard, corpus, tmp_path
):
    backbone = find_backbone(write_waves(tmp_path / "w.onnx", n_clips, n_samples), onnx=WAVES)
    rows = np.arange(11)
    found_nD = Embedder.open(backbone, corpus, CPU).embed(rows, 3)
    feed = Feed.open(
        corpus, tiny.FRONT_END, stored_views(tiny.RATE), None, CPU, backbone.choose_length(1.0)
    )
    waves_BS = feed.make_waveforms(rows, 3).numpy()
    assert waves_BS.shape[1] == heard
    np.testing.assert_allclose(found_nD, waves_BS.reshape(11, 8, -1).max(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        (["B", N_BANDS, "T"], [2]),
        (["B", "T", N_BANDS], [1]),
        (["B", 1, N_BANDS, "T"], [1, 3]),
        (["B", 1, 101, N_BANDS], [1, 2]),
    ],
    ids=["BFT", "BTF", "B1FT", "B1TF"],
)
def test_log_mels_go_in_the_order_that_it_takes(shape, axes, corpus, tmp_path):
    backbone = find_backbone(write(tmp_path / "m.onnx", shape, axes), onnx=MELS)
    rows = np.arange(3)
    found_nD = Embedder.open(backbone, corpus, CPU).embed(rows)
    feed = Feed.open(
        corpus, ASCDOMAIN_PASST, stored_views(32_000), None, CPU, backbone.choose_length(1.0)
    )
    expected_nD = feed.make_view(rows, 0).mean((1, 3)).numpy()
    np.testing.assert_allclose(found_nD, expected_nD, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "axes", "options", "given", "message"),
    [
        (["B"], [0], {}, WAVES, r"input x has shape \[\?\]\nGive a network with one float32"),
        (["B", 2, 3, 4, 5], [1], {}, WAVES, "input x has shape"),
        (["B", "S"], [1], {"kind": TensorProto.DOUBLE}, WAVES, "input x is not float32"),
        (
            ["B", 64, "T"],
            [2],
            {"output": ("B", 3, 4)},
            MELS,
            r"output embedding has shape \[\?, 3, 4\]",
        ),
        (["B", 64, 96], [2], {}, MELS, r"takes inputs \[\?, 64, 96\], and the front-end gives 1"),
        (["B", 3, N_BANDS, "T"], [1], {}, MELS, "takes inputs"),
    ],
)
def test_other_shapes_are_refused_when_it_is_found(shape, axes, options, given, message, tmp_path):
    name = write(tmp_path / "bad.onnx", shape, axes, **options)
    with pytest.raises(UnfitWeights, match=message):
        find_backbone(name, onnx=given)


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        (["B", "S"], OnnxInput(), "sample rate the file does not say: give --onnx-rate HZ"),
        (["B", N_BANDS, "T"], OnnxInput(), "the file does not say which, expected one of audioset"),
        (["B", N_BANDS, "T"], OnnxInput(front_end="x"), "front-end x, expected one of audioset"),
        (
            ["B", N_BANDS, "T"],
            OnnxInput(front_end="ascdomain_passt", sample_rate=8000),
            "rate 8000 Hz, but front-end ascdomain_passt is at 32000 Hz",
        ),
    ],
)
def test_what_the_file_does_not_say_has_to_be_said(shape, given, message, tmp_path):
    name = write(tmp_path / "x.onnx", shape, [len(shape) - 1])
    with pytest.raises(UnknownBackbone, match=message):
        find_backbone(name, onnx=given)


def test_of_several_outputs_the_one_named_embedding_is_taken(corpus, tmp_path):
    name = write(tmp_path / "x.onnx", ["B", N_BANDS, "T"], [2], more=("scores",))
    assert find_backbone(name, onnx=MELS).source.output == "embedding"


def test_a_file_is_named_by_its_content_and_refused_when_it_changes(tmp_path):
    file = tmp_path / "x.onnx"
    backbone = find_backbone(write(file, ["B", N_BANDS, "T"], [2]), onnx=MELS)
    again = find_backbone(write(tmp_path / "y.onnx", ["B", N_BANDS, "T"], [2]), onnx=MELS)
    assert backbone.identity == again.identity
    assert name_backbone(backbone).startswith("onnx_")
    write(file, ["B", N_BANDS, 101], [2])
    with pytest.raises(DamagedWeights, match="when the backbone was found"):
        backbone.open(CPU)


def test_what_is_no_onnx_file_is_refused(tmp_path):
    with pytest.raises(MissingWeights, match="there is no such file"):
        find_backbone(f"onnx:{tmp_path}/absent.onnx", onnx=WAVES)
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(UnfitWeights, match="is no ONNX file"):
        find_backbone(f"onnx:{tmp_path}/text.onnx", onnx=WAVES)


def test_an_output_of_another_shape_is_refused_when_it_runs(corpus, tmp_path):
    name = write(tmp_path / "x.onnx", ["B", N_BANDS, "T"], [0])
    with pytest.raises(UnfitWeights, match=r"gives \[128, 101\] for inputs \[3, 128, 101\]"):
        Embedder.open(find_backbone(name, onnx=MELS), corpus, CPU).embed(np.arange(3))
