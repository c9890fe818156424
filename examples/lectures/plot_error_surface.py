"""
A cliff, with and without clipping
==================================

The figure of Pascanu, Mikolov and Bengio (2013), which Goodfellow, Bengio and Courville drew anew, and the lectures
show: the error of one unit, ``x' = w σ(x) + b``, that shall be at 0.7 after 50 steps. It is two plains with a valley,
and a wall between, where the unit's attractor changes. Gradient descent comes down the slope, and meets the wall: the
gradient is some 500 times as long there as elsewhere, and one step along it leads far out of the picture. Clipped, to a
norm of 3, the same descent takes small steps along the foot of the wall, and comes to where the loss is small. (It does
not stay: at a rate of .01, a step of length .03 is still too long for the valley. Clipping is no learning rate.)

The lectures disagree on the rule: ``g ← η g / ‖g‖`` where ‖g‖ > η, say two, where ‖g‖ ≥ η, say two others. It is the
same: where they differ, ‖g‖ = η, that changes nothing.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.analysis import descent, surface


def loss(w, b):
    x = 0.5
    for _ in range(50):
        x = w * tg.sigmoid(x) + b
    return (x - 0.7) ** 2


# %%
# The surface, and the way of ``optim.SGD``, with and without ``optim.clip_grad_norm_``.

cliff = surface(loss, np.linspace(4.2, 5.4, 400), np.linspace(-3, -1.8, 400), vectorized=True)
ways = {"as it is": descent(loss, (5.0, -2.5), lr=0.01, steps=100),
        "clipped": descent(loss, (5.0, -2.5), lr=0.01, steps=100, clip=3.0)}  # fmt: skip
print(cliff)
for name, way in ways.items():
    print(f"{name}: {way}")

figure = plt.figure(figsize=(11, 5), layout="constrained")
axes = figure.subplot_mosaic([["map", "losses"], ["map", "norms"]], width_ratios=[1.3, 1])
cliff.plot(axes["map"], cmap="Blues", floor=0.2)
for color, (name, way) in zip(("C3", "C1"), ways.items()):
    way.plot(axes["map"], color=color, label=name)
    axes["losses"].semilogy(way.losses, color=color, label=name)
    axes["norms"].semilogy(way.norms, color=color, label=name)
axes["norms"].axhline(3, color="0.5", linewidth=0.8, linestyle=":")
axes["map"].set(title="The error of x' = w σ(x) + b after 50 steps", xlabel="w", ylabel="b", xlim=(4.2, 5.4),
                ylim=(-3, -1.8))  # fmt: skip
axes["losses"].set(title="One step undoes it, if it is not clipped", xlabel="", ylabel="loss")
axes["norms"].set(xlabel="step", ylabel="‖g‖, before clipping")
axes["losses"].legend()
