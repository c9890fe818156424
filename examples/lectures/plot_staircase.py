"""
The last state against the first
================================

A tanh network is squashed on its way forward, and no unit exceeds 1; its way backward is linear, and
exceeds everything. Grosse and Murai show what that looks like: the state after some steps, as a function of the first
one. Left, a single unit, ``h → tanh(2 h)``: the more steps, the more its end is a step. Middle, three units that share
one number, h: a staircase. On each stair the derivative vanishes, at each edge it explodes, and little is between.
Right, that derivative: after 12 steps it is below .001 in the middle of a stair, and above 100 at an edge.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.analysis import sensitivity

# %%
# Three units that see ``h = v · z``, each with a bias of its own: ``z' = tanh(w h + b)``. The recurrent matrix of that
# network is ``w vᵀ``, of rank 1, so that one number says all of its state, and can be drawn.

w, v, b = 3.0, np.array([0.5, 0.5, 0.5]), np.array([3.0, 0.0, -3.0])


def unit(h):
    return tg.tanh(2 * h)


def network(h):
    return (v * tg.tanh(w * tg.expand_dims(h, -1) + b)).sum(axis=-1)


figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
for color, steps in enumerate((1, 2, 4, 12)):
    sensitivity(unit, (-1, 1), steps=steps, resolution=1001).plot_ends(left, color=f"C{color}", label=f"{steps}")
    found = sensitivity(network, (-2, 2), steps=steps, resolution=2001)
    found.plot_ends(middle, color=f"C{color}", label=f"{steps}")
    found.plot(right, color=f"C{color}", label=f"{steps}", floor=1e-8)
    print(f"{steps:>2} steps: {found}")
left.set(title="One unit: a step", xlabel="first h", ylabel="last h")
middle.set(title="Three units: a staircase", xlabel="first h", ylabel="last h")
right.set(title="Its derivative: nothing, or too much", xlabel="first h", ylabel="|∂ last h / ∂ first h|")
for axes in (left, middle):
    axes.legend(title="steps", loc="upper left")
right.legend(title="steps", loc="lower left", ncols=2)
