import numpy as np
import pytest
import student_golden
import torch
from student_golden import assert_equals_golden, fill_by_key, fill_by_position
from torch.nn import functional

from students.adversary import Discriminator, reversal_strength, reverse_gradient


@pytest.fixture
def golden():
    return student_golden.load("grl")


@pytest.fixture
def discriminator():
    model = Discriminator(6)
    fill_by_key(model, student_golden.load("models/discriminator"))
    return model


@pytest.fixture
def features_BD():
    values = np.random.default_rng(31).standard_normal((5, 64)).astype(np.float32)
    return torch.from_numpy(values)


def test_discriminator_equals_the_published_one(discriminator):
    golden = student_golden.load("models/discriminator")
    assert_equals_golden(discriminator, golden, "key")
    fill_by_position(discriminator, golden)
    assert_equals_golden(discriminator, golden, "pos")


# Golden values are float32 with nine digits; batch norm over five rows adds its rounding: 1e-5.
def test_gradients_through_the_reversal_equal_the_published_ones(
    golden, discriminator, features_BD
):
    features_BD.requires_grad_()
    logits = discriminator.train()(reverse_gradient(features_BD, golden["alpha"]))
    loss = functional.cross_entropy(logits, torch.tensor(golden["devices"]))
    loss.backward()
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(logits, torch.tensor(golden["train_mode_logits"]), **close)
    assert loss.item() == pytest.approx(golden["loss_train_mode"], abs=1e-5)
    torch.testing.assert_close(
        features_BD.grad, torch.tensor(golden["grad_z_train_mode"]), rtol=0, atol=1e-6
    )
    # The discriminator itself learns at full strength, in the direction that lowers its loss.
    torch.testing.assert_close(
        discriminator.layers[-1].bias.grad, torch.tensor(golden["grad_last_linear_bias"]), **close
    )


def test_discriminator_in_evaluation_mode_equals_the_published_one(
    golden, discriminator, features_BD
):
    logits = discriminator.eval()(features_BD)
    torch.testing.assert_close(logits, torch.tensor(golden["eval_mode_logits"]), rtol=0, atol=1e-5)


def test_reversal_keeps_the_values_and_reverses_the_gradient():
    features_BD = torch.randn(3, 4, requires_grad=True)
    reversed_BD = reverse_gradient(features_BD, 0.3)
    assert torch.equal(reversed_BD, features_BD)
    weights_BD = torch.randn(3, 4)
    (reversed_BD * weights_BD).sum().backward()
    torch.testing.assert_close(features_BD.grad, -0.3 * weights_BD)


def test_reversal_strength_follows_the_published_schedule(golden):
    for point in golden["alpha_schedule"]:
        # Printed with nine digits.
        assert reversal_strength(point["p"]) == pytest.approx(point["alpha"], abs=1e-8)


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_progress_outside_of_training_is_refused(progress):
    with pytest.raises(ValueError, match="progress="):
        reversal_strength(progress)
