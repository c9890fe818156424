"""
Bidirectional, stacked, dilated, skipping: who sees whom
========================================================

Five networks of the lectures as graphs, with time running to the right. No edge is typed in. In each network a cell
takes the place of the usual ones that multiplies whatever passes it by a small number ε. The derivative of a result by
an input is then a sum over all paths of ε to the power of their length; so its order says how many steps the shortest
path has, and its factor how many such paths there are. Two boxes are joined where the order is one.
"""

# %%
# The cells are ordinary ones to the package: ``nn.Recurrent`` and the wrappers do with them what they do with an LSTM,
# and :func:`tinygrad_rnn.nn.watching` names what each layer and direction computed at each step.

import matplotlib.pyplot as plt
import numpy as np
from lecture_graphs import BLUE, GREEN, GREY, ORANGE, CountingCell, counted, draw, edges, paths, shortest

import tinygrad_rnn as tg
from tinygrad_rnn import nn

TIME = 8


def skipping() -> nn.Cell:
    cell = nn.TimeSkip(CountingCell(), skip=3, dtype=np.float64)
    cell.weights.data = np.ones((1, 1))
    return cell


def cells(n: int) -> list[nn.Cell]:
    return [CountingCell() for _ in range(n)]


NETWORKS = {
    "bidirectional": nn.Recurrent(cells(1), bidirectional=cells(1)),
    "stacked": nn.Recurrent(cells(3)),
    "stacked, with skips over depth": nn.Recurrent(cells(3), residual=True),
    "dilated: 1, 2, 4": nn.Recurrent([nn.Dilated(cell, d) for cell, d in zip(cells(3), (1, 2, 4))]),
    "a skip over 3 steps of time": nn.Recurrent(skipping()),
}

# %%
# Each network runs once over eight steps. ``paths`` counts, ``edges`` keeps the pairs that are one step apart: both are
# a few lines in ``lecture_graphs.py``, around ``tg.gradients``.

LABELS = {"forward": "→", "backward": "←"}


def graph(network: nn.Recurrent) -> tuple[dict, dict, dict, dict]:
    """The tensors to be joined, by (row, time); their places, labels and colours."""
    xs = [tg.tensor(np.ones((1, 1)), requires_grad=True) for _ in range(TIME)]
    with nn.watching() as seen:
        ys, _ = network(tg.stack(xs))
    both, hidden = network.bidirectional, {name: hs for name, hs in seen.items() if name.endswith(".h")}
    nodes = {("x", t): x for t, x in enumerate(xs)}
    nodes |= {(name, t): h for name, hs in hidden.items() for t, h in enumerate(hs)}
    nodes |= {("y", t): counted(y) for t, y in enumerate(ys)}
    rows = ["x", *hidden, "y"]
    places, labels, colors = {}, {}, {}
    for row, t in nodes:
        aside = (0.22 if "backward" in row else -0.22) if both and row not in "xy" else 0
        places[row, t] = (t + aside, rows.index(row))
        labels[row, t] = f"{row}{t + 1}" if row in "xy" else LABELS[row.split(".")[2]] if both else "h"
        colors[row, t] = GREY if row == "x" else GREEN if row == "y" else ORANGE if "backward" in row else BLUE
    return nodes, places, labels, colors


figure, all_axes = plt.subplots(len(NETWORKS), 1, figsize=(8, 13), layout="constrained")
for ax, (name, network) in zip(all_axes, NETWORKS.items()):
    nodes, places, labels, colors = graph(network)
    joined, start, end = edges(nodes), ("x", 0), ("y", TIME - 1)
    steps, ways, taken = shortest(nodes, joined, start, end)
    lean = -0.22 if "depth" in name else -0.14
    draw(ax, places, joined, labels, colors, bold=taken, fontsize=8, lean=lean)
    sees = "y1 sees x2" if paths(nodes["y", 0], [nodes["x", 1]])[0] else "y1 does not see x2"
    ax.set_title(f"{name}: x1 to y8 in {steps} steps, on {ways} path{'s' * (ways > 1)}; {sees}", fontsize=10)
