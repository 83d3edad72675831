"""A second writing of three students, in functions of their weights: what the modules are held to.

Dimensions: B clips, C channels, D features, F mel bands, T frames, K classes.

Nothing is shared with the modules but the names of the weights. All numbers are float64.
"""

import numpy as np
import torch
from torch.nn import functional

from students.rep_mobile import KERNELS


class Weights:
    """The tensors of a student under a path."""

    def __init__(self, state, path=""):
        self.state, self.path = state, path

    def __getitem__(self, name):
        return Weights(self.state, f"{self.path}{name}.")

    def get(self, name):
        return self.state[self.path + name].double()

    def has(self, name):
        return any(key.startswith(f"{self.path}{name}") for key in self.state)


def convolve(x, layer, *, stride=(1, 1), groups=1):
    """Convolve and normalise, with as many zeros around the maps as keep their size."""
    weight = layer["0"].get("weight")
    height, width = weight.shape[2:]
    x = functional.conv2d(x, weight, None, stride, (height // 2, width // 2), 1, groups)
    return normalise(x, layer["1"])


def normalise(x, norm):
    mean, variance = norm.get("running_mean"), norm.get("running_var")
    scale = norm.get("weight") / (variance + 1e-5).sqrt()
    return x * scale[:, None, None] + (norm.get("bias") - mean * scale)[:, None, None]


def deal(x, groups):
    """Channel c of the result is channel (c mod groups) * (C / groups) + c / groups of the inputs."""
    n = x.shape[1]
    return x[:, [c % groups * (n // groups) + c // groups for c in range(n)]]


def tf_sepnet(state, x, *, channels, poolings, adaptive):
    top = Weights(state)
    x = convolve(x, top["stem"]["0"], stride=(2, 2)).relu()
    x = convolve(x, top["stem"]["1"], stride=(2, 2), groups=channels // 2).relu()
    x = residual_norm(x, top["stem"]["2"], adaptive)
    for stage, n_blocks in enumerate((2, 2, 2, 3)):
        layers = top["stages"][str(stage)]
        for number in range(n_blocks):
            x = tf_block(x, layers[str(number)])
        x = residual_norm(x, layers[str(n_blocks)], adaptive)
        if stage < poolings:
            height, width = (size // 2 * 2 for size in x.shape[2:])
            x = x[:, :, :height, :width]
            x = torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
    weight, bias = top["head"].get("weight")[:, :, 0, 0], top["head"].get("bias")
    return torch.einsum("bcft,kc->bkft", x, weight).mean((2, 3)) + bias


def tf_block(x, block):
    if block.has("transition"):
        x = convolve(x, block["transition"]).relu()
    half = x.shape[1] // 2
    x = deal(x, 2)
    first, second = x[:, :half], x[:, half:]
    frames = convolve(first, block["along_bands"], groups=half).relu().mean(2, keepdim=True)
    bands = convolve(second, block["along_frames"], groups=half).relu().mean(3, keepdim=True)
    first = first + convolve(frames, block["mix_frames"]).relu()
    second = second + convolve(bands, block["mix_bands"]).relu()
    return torch.cat([first, second], 1)


def residual_norm(x, norm, adaptive):
    variance, mean = torch.var_mean(x, (1, 3), correction=1, keepdim=True)
    inside = (x - mean) / (variance + 1e-5).sqrt()
    if not adaptive:
        return 0.1 * x + inside
    rho, gamma, beta = (norm.get(name).view(1, -1, 1, 1) for name in ("rho", "gamma", "beta"))
    return gamma * (rho * x + (1 - rho) * inside) + beta


def cnn_gru(state, x):
    top = Weights(state)
    stem = top["stem"]
    x = convolve(convolve(x, stem["0"]), stem["1"])
    x = convolve(deal(x, 6), stem["3"], groups=12)
    x = excite(functional.silu(convolve(x, stem["4"], groups=12)), stem["6"])
    largest = gru_branch(functional.max_pool2d(x, 2), top["behind_max"])
    mean = gru_branch(functional.avg_pool2d(x, 2), top["behind_mean"])
    share = [top.get(f"mix_{name}") for name in ("mean", "max", "branches", "sequence")]
    one = share[0] * functional.avg_pool2d(mean, 2) + (1 - share[0]) * functional.avg_pool2d(
        largest, 2
    )
    two = share[1] * functional.max_pool2d(largest, 2) + (1 - share[1]) * functional.max_pool2d(
        mean, 2
    )
    x = share[2] * one + (1 - share[2]) * two
    x = deal(convolve(x, top["residual"]) + x, 36)
    x = functional.silu(convolve(x, top["tail"]["1"], stride=(2, 1), groups=72))
    x = functional.silu(convolve(x, top["tail"]["4"])).mean(3)
    states = torch.from_numpy(run_gru(top["recurrence"], x.numpy()))
    x = functional.silu(share[3] * x.mean(2) + (1 - share[3]) * states.mean(2))
    return x @ top["head"].get("weight").T + top["head"].get("bias")


def gru_branch(x, layers):
    x = convolve(x, layers["0"])
    x = convolve(x, layers["1"], groups=36)
    return excite(functional.silu(convolve(x, layers["2"], stride=(2, 2), groups=72)), layers["4"])


def excite(x, gate):
    inner = x.mean((2, 3)) @ gate["squeeze"].get("weight").T + gate["squeeze"].get("bias")
    outer = inner.relu() @ gate["excite"].get("weight").T + gate["excite"].get("bias")
    return x * outer.sigmoid()[:, :, None, None]


def run_gru(weights, steps_BTC):
    """Run the recurrence step by step; the gates are reset, update, new."""
    input_w, state_w = (weights.get(f"weight_{each}_l0").numpy() for each in ("ih", "hh"))
    input_b, state_b = (weights.get(f"bias_{each}_l0").numpy() for each in ("ih", "hh"))
    hidden = state_w.shape[1]
    state, states = np.zeros((len(steps_BTC), hidden)), []
    for step in range(steps_BTC.shape[1]):
        by_input = np.split(steps_BTC[:, step] @ input_w.T + input_b, 3, axis=1)
        by_state = np.split(state @ state_w.T + state_b, 3, axis=1)
        reset, update = (1 / (1 + np.exp(-by_input[i] - by_state[i])) for i in (0, 1))
        new = np.tanh(by_input[2] + reset * by_state[2])
        state = (1 - update) * new + update * state
        states.append(state)
    return np.stack(states, axis=1)


def rep_mobile(state, x):
    top = Weights(state)
    for layer in ("0", "1"):
        x = convolve(x, top["in_c"][layer], stride=(2, 2)).relu()
    strides = iter(((1, 1), (2, 2), (1, 1), (2, 1), (1, 1), (1, 1)))
    number = 0
    for stage, n_blocks in enumerate((3, 2, 1), 1):
        for _ in range(n_blocks):
            number += 1
            x = rep_block(x, top["stages"][f"s{stage}"][f"b{number}"]["block"], next(strides))
    weight = top["feed_forward"]["0"].get("weight")
    return normalise(functional.conv2d(x, weight), top["feed_forward"]["1"]).mean((2, 3))


def rep_block(x, block, stride):
    y = convolve(x, block["0"]).relu()
    y = sum_branches(y, block["1"]["0"], stride).relu()
    y = convolve(y, block["2"])
    if y.shape[1] == x.shape[1]:
        y = y + (x if stride == (1, 1) else functional.avg_pool2d(x, 3, stride, 1))
    return y.relu()


def sum_branches(x, branches, stride):
    width = x.shape[1]
    parts = [
        convolve(x, branches["convolutions"][str(i)], stride=stride, groups=width)
        for i in range(len(KERNELS))
    ]
    if stride == (1, 1):
        parts.append(normalise(x, branches["inputs"]))
    return torch.stack(parts).sum(0)


WRITINGS = {
    "tf_sepnet": lambda state, x: tf_sepnet(state, x, channels=64, poolings=3, adaptive=False),
    "tf_sepnet_40": lambda state, x: tf_sepnet(state, x, channels=40, poolings=2, adaptive=True),
    "cnn_gru": cnn_gru,
    "rep_mobile": rep_mobile,
}
"""By the student's name: from the state of its module and log-mels [B, 1, F, T] to logits [B, K]."""


def compute_plain_logits(name, state, x):
    """Return logits, float32 [B, K], of the second writing."""
    with torch.no_grad():
        return WRITINGS[name](state, x.double()).float()
