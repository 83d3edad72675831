import numpy as np
import onnx
import onnxruntime
import pytest
import student_golden
import torch
from torch import nn
from torch.nn import functional

from students import build
from students.export import onnx_file
from students.export.onnx_int8 import convert_to_integers
from students.quantise import (
    ActivationRange,
    QuantisedLayer,
    calibrate,
    compute_weight_scale,
    move_ranges,
    quantise,
    remove_rounding,
    round_weight,
)

SHAPE = (1, 1, 24, 20)


@pytest.fixture(scope="module")
def golden():
    return student_golden.load("quant")


def noise(n=6, seed=0):
    return torch.randn(n, *SHAPE[1:], generator=torch.Generator().manual_seed(seed))


def student(name="isotropic", **arguments):
    """Return a student whose norms have statistics."""
    torch.manual_seed(0)
    model = build(name, n_classes=4, **arguments)
    for seed in range(3):
        model(2 * noise(seed=seed) + 1)
    return model.eval()


def small_isotropic(kernel=3):
    return student(filters=8, depth=2, kernel=kernel, patch=3)


def small_cp_mobile():
    return student("bcbl8", base_channels=8)


def layers(model):
    return [each for each in model.modules() if isinstance(each, QuantisedLayer)]


def test_weights_have_the_published_grid(golden):
    weight = torch.tensor(golden["weights"])
    expected = golden["per_channel_symmetric"]
    scale_O = compute_weight_scale(weight)
    np.testing.assert_allclose(scale_O, expected["scale"], rtol=1e-6)
    integers = round_weight(weight)
    assert integers.dtype == torch.int8
    wrapped = QuantisedLayer(nn.Conv2d(2, 4, 3, bias=False), rectified=False, rounds=False)
    wrapped.layer.weight = nn.Parameter(weight)
    one = torch.zeros(1, 2, 3, 3)
    one[0, 1, 2, 0] = 1
    calibrate(wrapped, [one])
    with torch.no_grad():
        simulated_O = wrapped(one).flatten()
    np.testing.assert_allclose(simulated_O, scale_O * integers[:, 1, 2, 0], rtol=1e-5)
    # The largest weight of a channel lies between two integers.
    assert (integers - torch.tensor(expected["int8"])).abs().max() <= 1
    assert (integers != torch.tensor(expected["int8"])).sum() <= len(scale_O)


def test_activations_follow_the_published_running_range_and_grid(golden):
    expected = golden["moving_average_affine_quint8"]["qnnpack"]
    observed, rounded = ActivationRange(), torch.empty(0)
    for batch, (low, high) in zip(
        golden["activations"], expected["running_min_max_after_each_batch"], strict=True
    ):
        rounded = observed(torch.tensor(batch))
        assert float(observed.low) == pytest.approx(low, rel=1e-6)
        assert float(observed.high) == pytest.approx(high, rel=1e-6)
    scale, zero_point = observed.compute_grid()
    assert [float(scale)] == pytest.approx(expected["scale"], rel=1e-6)
    assert int(zero_point) == expected["zero_point"]
    torch.testing.assert_close(rounded, torch.tensor(expected["fake_quant_of_batch2"]))


def test_ranges_move_in_training_only():
    observed = ActivationRange()
    observed(torch.tensor([0.0, 1.0]))
    observed(torch.tensor([-1.0, 3.0]))
    assert (float(observed.low), float(observed.high)) == pytest.approx((-0.01, 1.02))
    observed.eval()(torch.tensor([-9.0, 9.0]))
    assert (float(observed.low), float(observed.high)) == pytest.approx((-0.01, 1.02))


def test_ranges_can_be_fixed_in_training():
    copied = quantise(small_isotropic(), SHAPE)
    calibrate(copied, [noise()])
    ranges = [each for each in copied.modules() if isinstance(each, ActivationRange)]
    before = [float(each.high) for each in ranges]
    copied.train()
    move_ranges(copied, False)
    copied(3 * noise())
    assert [float(each.high) for each in ranges] == before
    assert copied.training
    move_ranges(copied, True)
    copied(3 * noise())
    assert all(float(each.high) != high for each, high in zip(ranges, before, strict=True))


def test_calibration_takes_the_whole_range_of_all_batches():
    observed = nn.Sequential(ActivationRange())
    calibrate(observed, [torch.tensor([0.5, 1.0]), torch.tensor([-2.0, 0.5])])
    assert (float(observed[0].low), float(observed[0].high)) == (-2.0, 1.0)


def test_a_norm_and_a_relu_that_follow_a_convolution_become_part_of_it():
    model = small_cp_mobile()
    copied = quantise(model, SHAPE)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in copied.modules())
    # Two in the stem, two inside each of six blocks, and those behind blocks without a shortcut.
    assert sum(each.rectified for each in layers(copied)) == 2 + 2 * 6 + 2
    calibrate(copied, [noise()])
    with torch.no_grad():
        expected, found = model(noise()), copied(noise())
    assert (found - expected).abs().max() < 0.15 * expected.std()


def test_layers_of_another_model_are_not_made_integers():
    copied = quantise(small_isotropic(), SHAPE)
    calibrate(copied, [noise()])
    with pytest.raises(ValueError, match=r"layer model\.0: no node of the model has its weights"):
        convert_to_integers(onnx.ModelProto(), copied)


@pytest.mark.parametrize("make", [lambda: small_isotropic(kernel=4), small_cp_mobile])
def test_without_rounding_it_is_the_student_again(make):
    model = make()
    with torch.no_grad():
        torch.testing.assert_close(remove_rounding(quantise(model, SHAPE))(noise()), model(noise()))


def test_a_norm_behind_an_activation_stays():
    model = small_isotropic()
    kept = [each for each in quantise(model, SHAPE).modules() if isinstance(each, nn.BatchNorm2d)]
    assert len(kept) == 1 + 2 * 2


class _Twice(nn.Module):
    """A convolution that is called twice, and one whose result two modules take."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Conv2d(1, 1, 3, padding=1)
        self.norm = nn.BatchNorm2d(1)
        self.forked = nn.Conv2d(1, 1, 1)
        self.relu = nn.ReLU()

    def forward(self, x):
        forked = self.forked(self.norm(self.shared(self.shared(x))))
        return self.relu(forked) + forked


def test_modules_with_two_inputs_or_two_takers_are_not_folded():
    copied = quantise(_Twice().eval(), SHAPE)
    assert isinstance(copied.norm, nn.BatchNorm2d)
    assert isinstance(copied.relu, nn.ReLU)
    assert not copied.forked.rectified


def test_quantising_leaves_the_student_unchanged():
    model = small_cp_mobile()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantise(model, SHAPE)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training


def test_without_calibration_there_are_no_integers():
    copied = quantise(small_isotropic(), SHAPE)
    with pytest.raises(ValueError, match=r"layer model\.0: no clip has set the range"):
        convert_to_integers(onnx.ModelProto(), copied)
    with pytest.raises(ValueError, match="no clip has set the range"):
        copied(noise())
    with pytest.raises(ValueError, match="no clip has set the range"):
        calibrate(copied, [])


def test_a_quantised_student_learns():
    copied = quantise(small_isotropic(), SHAPE).train()
    inputs, labels = noise(16), torch.arange(16) % 4
    before = [weights.detach().clone() for weights in copied.parameters()]
    optimizer = torch.optim.Adam(copied.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = functional.cross_entropy(copied(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert not any(map(torch.equal, before, copied.parameters()))
    assert not any(
        each.low.isnan() for each in copied.modules() if isinstance(each, ActivationRange)
    )


def test_learnt_ranges_are_in_a_checkpoint():
    learnt = quantise(small_isotropic(), SHAPE)
    calibrate(learnt, [noise()])
    fresh = quantise(build("isotropic", n_classes=4, filters=8, depth=2, patch=3), SHAPE).eval()
    fresh.load_state_dict(learnt.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(noise()), learnt(noise()))


@pytest.mark.parametrize("make", [lambda: small_isotropic(kernel=4), small_cp_mobile])
def test_the_runtime_computes_in_integers_as_simulated(make, tmp_path):
    copied = quantise(make(), SHAPE)
    calibrate(copied, [noise()])
    model = convert_to_integers(onnx_file.convert_student(remove_rounding(copied), SHAPE), copied)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"log_mels": noise().numpy()})
    with torch.no_grad():
        expected = copied(noise()).numpy()
    # A sum that falls between two integers may be rounded to either.
    assert np.abs(found - expected).max() < 0.05 * expected.std()
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    n_convolutions = sum(isinstance(each.layer, nn.Conv2d) for each in layers(copied))
    assert kinds.count("QLinearConv") == n_convolutions
    assert kinds.count("QGemm") == len(layers(copied)) - n_convolutions
    assert "Conv" not in kinds
    assert "Gemm" not in kinds
    stored = {each.name: each for each in model.graph.initializer}
    weights = [each for name, each in stored.items() if name.endswith(".weight")]
    assert len(weights) == len(layers(copied))
    assert {each.data_type for each in weights} == {onnx.TensorProto.INT8}
