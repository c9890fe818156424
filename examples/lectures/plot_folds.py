"""
Folds: where attractors vanish
==============================

The network is one unit, ``x' = w σ(x) + b``, with w = 5, as in Pascanu, Mikolov and Bengio (2013). Its fixed points,
over the bias: for b between two values there are three, of which two are stable, and elsewhere one. At the ends, the
folds, a stable one meets the unstable one, and both are gone. Who trains b moves along a branch, and then falls off it,
to another: the state after many steps, below, jumps. At the jump its derivative by b explodes, and with it the gradient
of any loss. Such edges are the cliffs of the lectures' error surfaces.
"""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.analysis import branches, profile


def step(x, b):
    return 5 * tg.sigmoid(x) + b


# %%
# The branches are followed around the folds, and Newton's method finds the folds themselves.

found = branches(step, (-3, 3), np.linspace(-3.2, -1.8, 15))
print(found)

# %%
# The same map as a network whose state after 50 steps matters, from three starts: where it comes to lie, and how much
# that depends on b. Between the folds it is the start that decides on which branch: one end has its edge elsewhere.

bs = np.linspace(-3.2, -1.8, 2001)


def after_50(b, start):
    x = start + 0 * b
    for _ in range(50):
        x = step(x, b)
    return x


figure, (above, below) = plt.subplots(2, 1, figsize=(8, 6.4), sharex=True, layout="constrained", height_ratios=[3, 2])
found.plot(above)
for p, x in found.folds:
    above.annotate(f"b = {p:.4f}", (p, x), xytext=(12 if x < 0 else -12, 0), textcoords="offset points", va="center",
                   ha="left" if x < 0 else "right")  # fmt: skip
above.set(title="Fixed points of x' = 5 σ(x) + b: two folds", xlabel="", ylabel="x")
for color, start in ("C1", -3.0), ("C2", 0.5), ("C4", 3.0):
    ends = profile(partial(after_50, start=start), bs, vectorized=True)
    print(f"from {start}: largest derivative {ends.slopes.max():.3g}, at b = {bs[ends.slopes.argmax()]:.3f}")
    above.plot(bs, ends.losses, ":", color=color, linewidth=2.5, label=f"50 steps from {start}")
    below.semilogy(bs, ends.slopes, color=color, label=f"from {start}")
above.legend(loc="lower right", fontsize="small")
below.set(title="How much the state after 50 steps depends on b", xlabel="b", ylabel="∂ x_50 / ∂ b")
below.legend(loc="upper left", fontsize="small")
