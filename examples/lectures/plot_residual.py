"""
Depth: plain, residual, highway, dense
======================================

Depth does to a gradient what time does: it is multiplied by a Jacobian for each layer (Murai: just read t as the number
of a layer). Left: how much of the gradient of a loss on top of sixty layers arrives at each of them. A plain network
loses it. Where each layer adds to what it gets, the Jacobian is I + ∂F/∂x, and a gradient always has a way on which
nothing multiplies it; where a layer gets the outputs of all layers below, it has one, too. Where a gate T mixes the
two, as in a highway, that way is multiplied by 1 - T at each layer: near 1, and not 1.
Right: the residual one, with F made smaller and smaller. With F = 0 the whole network is the identity, forward and
backward.
"""

# %%
# The four networks, of the package's blocks. Each layer, and each F, is of 32 units.

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn

DEPTH, SIZE, GROWTH = 60, 32, 4
rng = np.random.default_rng(0)
x0 = rng.standard_normal((16, SIZE))


def layer(inputs: int = SIZE, outputs: int = SIZE) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, rng=rng, dtype=np.float64), tg.tanh)


def residual(scale: float = 1.0) -> nn.ResidualBlock:
    """y = x + W₂ tanh(W₁ x + b₁), with W₂ so many times as large as usual."""
    last = nn.Linear(SIZE, SIZE, bias=False, rng=rng, dtype=np.float64)
    last.weight.data = scale * last.weight.data
    return nn.ResidualBlock(nn.Sequential(*layer(), last))


NETWORKS = {
    "plain": [layer() for _ in range(DEPTH)],
    "residual": [residual() for _ in range(DEPTH)],
    "highway, gate bias −2": [nn.HighwayBlock(layer(), SIZE, bias=-2.0, rng=rng) for _ in range(DEPTH)],
    "dense": [nn.DenseBlock([layer(SIZE + GROWTH * i, GROWTH)]) for i in range(DEPTH)],
}

# %%
# The states of all layers are kept, so that one walk of the tape gives the gradient by each. The loss is the sum of the
# last state, multiplied by random numbers: its gradient by that is the same for all four.


def gradients(blocks: list) -> np.ndarray:
    """The norm of the gradient by the first SIZE features of each state, as a part of that by the last state's."""
    states = [tg.tensor(x0, requires_grad=True)]
    for block in blocks:
        states.append(block(states[-1]))
    weights = np.random.default_rng(1).standard_normal(states[-1].shape)
    norms = [np.linalg.norm(g.numpy()[:, :SIZE]) for g in tg.gradients((weights * states[-1]).sum(), states)]
    return np.array(norms) / norms[-1]


figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for name, blocks in NETWORKS.items():
    left.semilogy(gradients(blocks), label=name)
left.set(xlabel="layer", ylabel="size of the gradient, relative to the last",
         title=f"Through {DEPTH} layers, the plain network loses it")  # fmt: skip
left.legend()
for i, scale in enumerate((0.0, 0.1, 0.5, 1.0, 2.0)):
    right.semilogy(gradients([residual(scale) for _ in range(DEPTH)]), color=plt.cm.viridis(0.35 + 0.13 * i),
                   label=f"W₂ times {scale:g}")  # fmt: skip
right.set(xlabel="layer", ylabel="size of the gradient, relative to the last",
          title="Residual: exactly 1 with F = 0, near it with a small F")  # fmt: skip
right.legend()
