"""
The highway of the cell state
=============================

An LSTM changes its cell state by c' = f * c + i * g. Along that path, and no other, the derivative of the last state by
the first is the product of the forget gates between them: no matrix, no tanh. In a plain network each step multiplies
by W and by a slope of tanh.

How far a gradient comes on that road, the gates say. With a forget bias of 1 they are near .73 at first, and .73 to the
power of 59 is 9e-9: nine orders of magnitude more than with a bias of 0, and still next to nothing; less than plain
tanh units of spectral radius 1 have, 5e-7. (The whole derivative, which has a second way, is 9e-6.) An LSTM does not do
away with vanishing gradients. But a forget gate is learned, and may be different for each unit and at each step: the
network can choose what it keeps.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn

STEPS, UNITS = 60, 16
x = np.random.default_rng(0).standard_normal((STEPS, 1, 4))

# %%
# A batch is one sequence, once for each unit, and of copy i the last state's unit i is differentiated: so a single
# walk over the tape gives all rows of the matrices ∂s_T/∂s_t. Of each, the root mean square of its singular values is
# measured: how much longer or shorter a gradient becomes on its way back, on average.


def run(cell):
    """The states of all steps, on the tape, c of an LSTM; and its forget gates."""
    state, states = None, []
    with nn.watching(cell) as seen:
        for x_t in np.repeat(x, UNITS, axis=1):
            _, state = cell(x_t, state)
            states.append(state[1] if isinstance(state, tuple) else state)
    return states, np.array([f.numpy()[0] for f in seen.get("f", [])])


def size(states):
    return [np.linalg.norm(J.numpy()) / UNITS**0.5 for J in tg.gradients(states[-1].trace(), states)]


def lstm(forget_bias):
    return nn.LSTMCell(4, UNITS, forget_bias=forget_bias, rng=0, dtype=np.float64)


# %%
# On the left, the whole derivative (lines) is larger than the product of the gates (dots): there is a second way,
# through h, and it is the one with a matrix and tanh on it. Without it, W_hh = 0, the product is all there is, but
# for rounding. The units on the right have six forget biases, and so six time scales.

tanh = nn.RNNCell(4, UNITS, rng=0, dtype=np.float64)
tanh.weight_hh.data = nn.init.with_spectral_radius(tanh.weight_hh.data, 1.0)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), sharey=True, layout="constrained")
steps = np.arange(1, STEPS + 1)
left.semilogy(steps, size(run(tanh)[0]), "C3", label="tanh units, radius 1")
for color, bias in ("C1", 0.0), ("C0", 1.0), ("C2", 5.0):
    states, gates = run(lstm(bias))
    left.semilogy(steps, size(states), color, label=f"LSTM, forget bias {bias:.0f}")
    products = [gates[t:].prod(axis=0) for t in steps]
    left.semilogy(steps, [np.sqrt(np.mean(p**2)) for p in products], color, linestyle=":", linewidth=2.5)
left.set(title="At first, the gates' bias says how far it reaches", xlabel="step t", ylabel="size of ∂s_T/∂s_t")
left.legend(title="dotted: product of forget gates", loc="lower right", fontsize="small")

biases = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
cell = lstm(np.resize(biases, UNITS))  # one for each unit
cell.weight_hh.data = np.zeros_like(cell.weight_hh.data)
states, gates = run(cell)
derivatives = np.stack([np.diagonal(J.numpy()) for J in tg.gradients(states[-1].trace(), states)])
products = np.stack([gates[t:].prod(axis=0) for t in steps])
for i, bias in reversed([*enumerate(biases)]):
    right.semilogy(steps, derivatives[:, i], f"C{i}", linewidth=1, label=f"{bias:.0f}")
    right.semilogy(steps[::4], products[::4, i], f"C{i}", marker=".", linestyle="none", markersize=7)
right.set(title="Without W_hh: the product, and nothing else", xlabel="step t", ylim=(1e-20, 30))
right.legend(title="forget bias; dots: product", loc="lower right", fontsize="small", ncols=2)
for axes in (left, right):
    axes.grid()

print("largest relative difference of derivative and product:", abs(derivatives / products - 1).max())
