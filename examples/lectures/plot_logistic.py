"""
Iterated functions are complicated
==================================

A recurrent network without input iterates a function. "Iterated functions are complicated", says Grosse, and shows
``f(x) = 3.5 x (1 - x)``. (His slide prints ``3.5 × (1 - x)``, Murai's has the x. Without it f would be a straight line,
and only explode.) Left: from almost any start in (0, 1), the iterates end in the same four numbers, one after another.
Right: for which r there are how many; and below, how the derivative of the last iterate by the first grows, on average,
with each step. Below 0 it vanishes, above 0 it explodes: where the orbit is chaotic, no gradient descent will train its
start.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.analysis import bifurcation, fixed_points, iterate


def f(x, r=3.5):
    return r * x * (1 - x)


# %%
# The fixed points, with the derivative of f there, and the cycle of four. Its multiplier, the derivative of four steps,
# is tiny: so the orbit is caught soon.

print("as on the one slide:", fixed_points(lambda x: 3.5 * (1 - x), interval=(0, 1)))
print(fixed_points(f, interval=(-0.5, 1.5)))
print(fixed_points(f, interval=(0, 1), period=4).where(period=4))

# %%
# Where orbits end, for 1,500 values of r at once; and the derivatives of all steps, multiplied (their logarithms,
# added), of the same orbits. The tape has the derivative of f.

rs = np.linspace(2.8, 4, 1500)
ends = bifurcation(f, rs, 0.3, transient=400, keep=200)
slopes = tg.grad(lambda x: f(x, rs).sum())(ends.values).numpy()
growth = np.log(np.abs(slopes)).mean(axis=(0, 1))

figure = plt.figure(figsize=(11, 4.6), layout="constrained")
axes = figure.subplot_mosaic([["iterates", "ends"], ["iterates", "growth"]], height_ratios=[2, 1])
for start in 0.1, 0.3, 0.65:
    axes["iterates"].plot(iterate(f, start, 30), "o-", markersize=3, linewidth=0.8, label=f"from {start}")
axes["iterates"].set(title="3.5 x (1 - x): from almost anywhere into a cycle of four", xlabel="step", ylabel="x",
                     ylim=(0, 1.05))  # fmt: skip
axes["iterates"].legend(loc="lower right", ncols=3)
ends.plot(axes["ends"], alpha=0.35)
axes["ends"].set(title="One, two, four, ..., infinitely many values", xlabel="")
for sign, color, name in (-1, "C0", "vanishes"), (1, "C3", "explodes"):
    axes["growth"].plot(rs, np.where(sign * growth > 0, growth, np.nan), color=color, linewidth=1, label=f"it {name}")
axes["growth"].axhline(0, color="0.5", linewidth=0.8)
axes["growth"].set(xlabel="r", ylabel="log |∂x'/∂x|,\nmean", xlim=(2.8, 4), ylim=(-2, 1))
axes["growth"].legend(loc="upper left", ncols=2, fontsize="small")
for name in "ends", "growth":
    axes[name].axvline(3.5, color="0.5", linestyle=":")
