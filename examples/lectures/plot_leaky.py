"""
How long leaky units remember
=============================

A leaky unit keeps a part 1 - a of what it was, and takes a part a of what is new. As the lecture writes it, h' = (1 -
a) h + a φ(U x), there is no W h within φ: units do not see one another, and of a gradient (1 - a)^lag comes back,
exactly, whatever the inputs. The units of echo-state networks, h' = (1 - a) h + a φ(W h + U x), do have it, and then
the leak is only a part of the story: what counts is the spectral radius of (1 - a) I + a W.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn

UNITS, LAGS, LEAKS, RADIUS = 50, 200, (1.0, 0.5, 0.1, 0.02), 0.9
zeros = np.zeros((LAGS, UNITS, 1))
W = nn.init.with_spectral_radius(np.random.default_rng(0).standard_normal((UNITS, UNITS)), RADIUS)


def size(cell):
    """Of the derivative of the last state by those before it, for each lag, relative to that of lag 0."""
    states, h = [], None
    for x in zeros:
        _, h = cell(x, h)
        states.append(h)
    matrices = tg.gradients(h.trace(), states[::-1])
    return np.array([np.linalg.norm(J.numpy()) for J in matrices]) / UNITS**0.5


# %%
# The state is around 0 here, where tanh has the slope 1, so with W the derivatives are powers of (1 - a) I + a W. In
# the long run they shrink by its spectral radius at each step (dotted). W has eigenvalues all around a circle of
# radius .9; the leak draws them towards 1, so that those which oscillate die out, and those near .9 last longer than
# W's alone.

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), sharey=True, layout="constrained")
lags = np.arange(LAGS)
for color, a in zip(("C3", "C1", "C0", "C2"), LEAKS):
    alone = size(nn.LeakyCell(1, UNITS, a, recurrent=False, rng=0, dtype=np.float64))
    left.semilogy(lags[alone > 0], alone[alone > 0], color, label=f"a = {a:g}", marker="o" if a == 1 else None)
    left.semilogy(lags[::8], (1 - a) ** lags[::8], color, linestyle="none", marker=".", markersize=6)
    cell = nn.LeakyCell(1, UNITS, a, bias=False, rng=0, dtype=np.float64)
    cell.weight_hh.data = W
    radius = nn.effective_spectral_radius(W, a)
    right.semilogy(lags, size(cell), color, label=f"a = {a:g}: radius {radius:.3f}")
    right.semilogy(lags, radius**lags, color, linestyle=":", linewidth=2)
left.set(title="Without W h: (1 - a)^lag, exactly (dots)", xlabel="lag: steps back", ylabel="size of ∂h_T/∂h_(T - lag)")
left.legend(loc="lower right")
right.set(title="With W h (radius .9): W decides, too", xlabel="lag: steps back", ylim=(1e-6, 3))
right.legend(title="dotted: powers of the radius", fontsize="small", loc="upper right", bbox_to_anchor=(1, 0.64))
for axes in (left, right):
    axes.grid()
