import torch
from torch import nn
from torch.nn import functional

from teachers.cost import measure_cost


class Attention(nn.Module):
    """Everything that is counted, for two tokens, some of it without a module."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1, groups=1)
        self.linear = nn.Linear(8, 6)

    def forward(self, inputs_BCFT):
        rows = self.convolution(inputs_BCFT).flatten(1, 2)
        tokens = self.linear(rows)
        functional.scaled_dot_product_attention(tokens, tokens, tokens)
        weights = tokens @ tokens.transpose(1, 2)
        return torch.matmul(weights, tokens)


def test_products_are_counted_in_modules_and_outside_of_them():
    n_tokens = 4 * 5
    convolution = 4 * 5 * 8 * 3 * 3
    linear = n_tokens * 8 * 6
    attention = 2 * n_tokens * n_tokens * 6
    cost = measure_cost(Attention(), (1, 1, 5, 8))
    assert cost.macs == convolution + linear + 2 * attention
    assert cost.params == 4 * 9 + 4 + 8 * 6 + 6


def test_a_model_keeps_its_mode():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = model[1].running_mean.clone()
    measure_cost(model, (1, 3))
    assert model.training
    assert torch.equal(model[1].running_mean, before)
    measure_cost(model.eval(), (1, 3))
    assert not model.training
