"""
Vanishing and exploding, in one number
======================================

The smallest recurrent network is ``h' = w h``. What its last state says about its first, the tape multiplies together:
one factor ``w`` for each step, so a power of ``w``. The lectures print 117.4 for ``w = 1.1`` and .00515 for
``w = 0.9``, of T = 50, and the formula ``w^(T-1)``. The numbers are those of 50 factors; the formula, of 50 states, has
49 of them between the first and the last: 106.7 and .00573. Each is right of something: the table below counts.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg

# %%
# One state after another, and the derivative of the last by each of them: of ``h_50`` by ``h_t``, for all t at once.


def derivatives(w: float, steps: int) -> np.ndarray:
    states = [tg.tensor(1.0, requires_grad=True)]
    for _ in range(steps):
        states.append(w * states[-1])
    return np.array([g.item() for g in tg.gradients(states[-1], states)])


for w in 0.9, 1.0, 1.1:
    by_first, by_second = derivatives(w, 50)[:2]
    print(f"w = {w}:   50 factors {by_first:.5g}   49 factors {by_second:.5g}")

# %%
# On a logarithmic axis a power is a straight line. Only ``w = 1`` is level: a hair to either side, and after enough
# steps the gradient is nothing, or everything.

for w in 1.1, 1.0, 0.9:
    plt.semilogy(range(51), derivatives(w, 50), label=f"w = {w}")
plt.title("A gradient through h' = w h is a power of w")
plt.xlabel("step t")
plt.ylabel("∂h_50 / ∂h_t")
plt.grid()
plt.legend()
