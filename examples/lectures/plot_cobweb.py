"""
Cobwebs: sinks and sources
==========================

To iterate a function by eye, go up or down to its graph, across to the diagonal, and again. Left, Grosse's
``x → x² + 0.15``: it has two fixed points, where its graph meets the diagonal. What begins below the upper one falls
into the lower, what begins above is lost. His rule: f' > 1 is a source, f' < 1 a sink.

The rule lacks two bars: it is \\|f'\\| that counts. Right, ``x → 3.5 x (1 - x)``. At its fixed point 5/7 the derivative
is -1.5, less than 1; yet the orbit that starts next to it turns around it, further and further out.
"""

import matplotlib.pyplot as plt

from tinygrad_rnn.analysis import cobweb, fixed_points


def square(x):
    return x * x + 0.15


def logistic(x):
    return 3.5 * x * (1 - x)


# %%
# Newton's method finds the fixed points, with derivatives from the tape, which say of what kind they are.

falls, turns = (-0.3, 1.2), (-0.1, 1.1)
fixed = fixed_points(square, interval=falls), fixed_points(logistic, interval=turns)
print(*fixed, sep="\n\n")

# %%
# An orbit that leaves for infinity can be drawn for some steps.

figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.8), layout="constrained")
for axes, points in (left, fixed[0]), (right, fixed[1]):
    points.plot(axes)
cobweb(square, 0.75, 30, interval=falls).plot(left, label="from 0.75: falls")
left.plot(*cobweb(square, 0.85, 7).path.T, color="C2", linewidth=1, label="from 0.85: is lost")
left.set(title="x² + 0.15: f' = 0.37 and f' = 1.63", ylim=(-0.02, 1.2), ylabel="x² + 0.15")

cobweb(logistic, 5 / 7 + 0.01, 30, interval=turns).plot(right, label="from 5/7 + 0.01")
right.set(title="3.5 x (1 - x): f' = 3.5, and -1.5: a source, too", ylim=(-0.1, 1), ylabel="3.5 x (1 - x)")
for axes in (left, right):
    axes.legend(loc="upper left", fontsize="small")
