import numpy as np
import pytest
import student_golden
import torch
from torch import nn
from torch.nn import functional

from students.challenge import challenge_features
from students.recipe import Challenge

GOLDEN = student_golden.load("rsc")


@pytest.mark.parametrize("run", GOLDEN["runs"], ids=lambda run: f"{run['drop_f']}-{run['drop_b']}")
def test_masks_loss_and_gradient_equal_the_published_ones(run):
    features_BD = torch.tensor(GOLDEN["features"], requires_grad=True)
    labels_B = torch.tensor(GOLDEN["labels"])
    classifier = nn.Linear(8, 4)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor(GOLDEN["W"]))
        classifier.bias.copy_(torch.tensor(GOLDEN["b"]))
    challenge = Challenge(drop_features=run["drop_f"], drop_clips=run["drop_b"])
    seen_BD = challenge_features(features_BD, classifier, labels_B, challenge)
    np.testing.assert_array_equal((seen_BD != 0).int().numpy(), run["mask"])
    logits_BK = classifier(seen_BD)
    # Golden values are float32 with nine digits.
    close = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(logits_BK, torch.tensor(run["y_hat_final"]), **close)
    loss = functional.cross_entropy(logits_BK, labels_B)
    loss.backward()
    assert loss.item() == pytest.approx(run["loss"], abs=1e-6)
    torch.testing.assert_close(features_BD.grad, torch.tensor(run["grad_features"]), **close)


def test_finding_what_to_mute_leaves_no_gradient_in_the_classifier():
    classifier = nn.Linear(8, 4)
    features_BD = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    challenge_features(features_BD, classifier, torch.zeros(6, dtype=torch.int64), Challenge())
    assert classifier.weight.grad is None


@pytest.mark.parametrize("name", ["drop_features", "drop_clips"])
def test_a_share_out_of_range_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name}=1\.0"):
        Challenge(**{name: 1.0})
