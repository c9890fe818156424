"""
The unrolled network is the tape
================================

Lectures draw a recurrent network unrolled: a copy of the cell for each step, joined by the state. Nobody has to draw
it. Below are the entries of the tape that three steps of an Elman network leave, as they are: a box is an entry, an
arrow leads from an entry to one that was computed from it. Back-propagation through time is the walk along these
arrows, backward.
"""

# %%
# The network and its loss, with the names of Clua and Vasconcelos. The loop is Python's.

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from lecture_graphs import BLUE, GREEN, GREY, ORANGE, draw, of_tape, way

import tinygrad_rnn as tg

STEPS = 3
rng = np.random.default_rng(0)
shapes = {"W_e": (3, 2), "b_e": 3, "W_h": (3, 3), "W_s": (2, 3), "b_s": 2, "h(0)": 3}
leaves = {name: tg.tensor(rng.standard_normal(shape), requires_grad=True) for name, shape in shapes.items()}
W_e, b_e, W_h, W_s, b_s, h = leaves.values()
named, ends, E = dict(leaves), [], 0.0
for t in range(1, STEPS + 1):
    X, y = rng.standard_normal((2, 2))
    h = named[f"h({t})"] = tg.tanh(W_e @ X + W_h @ h + b_e)
    o = named[f"o({t})"] = W_s @ h + b_s
    E = E + ((o - y) ** 2).sum()
    ends.append(E.node.position)
named["E"] = E
tape = tg.tape(E)
print(tape)

# %%
# An entry knows its place in the order of creation: so it is known in which step it was made. Within its step it stands
# one row above the highest of its parents. The weights are made once, and stand at the left, each at the height at
# which it is used.

entries, labels, joined = of_tape(tape, named)
column = {entry: 0 if entry.op is None else 1 + np.searchsorted(ends, entry.position) for entry in entries}
row: dict = {}
for entry in entries:
    below = [row[parent] for parent in entry.parents if parent and column[parent] == column[entry]]
    row[entry] = 1 + max(below, default=0)
places = {entry: (1.5 * column[entry], row[entry]) for entry in entries if entry.op}
for entry in entries:
    if W_h.node in entry.parents:  # beside the product with W_e
        places[entry] = (1.5 * column[entry] + 0.75, row[entry] + 0.55)
for leaf in leaves.values():
    first = next(entry for entry in entries if leaf.node in entry.parents)
    aside = {"W_e": -0.6, "h(0)": 0.5}.get(labels[leaf.node], 0)
    places[leaf.node] = (0.3, places[first][1] + aside)

states = [named[f"h({t})"].node for t in range(STEPS + 1)]
colors = dict.fromkeys(entries, GREY) | {entry: ORANGE for entry in entries if entry.op is None}
colors |= dict.fromkeys(states, BLUE) | {named[f"o({t})"].node: GREEN for t in range(1, STEPS + 1)}

# %%
# The thick arrows are the way of the state, from step to step: the gradient of the last error reaches h(0) on no other.

bold = [edge for before, after in pairwise(states) for edge in way(before, after)]
uses = sum(parent is W_h.node for parent, _ in joined)
figure, ax = plt.subplots(figsize=(8, 8), layout="constrained")
draw(ax, places, joined, labels, colors, bold=bold, fontsize=8, lean=0.07)
ax.set_title(f"{STEPS} steps are {len(tape)} entries; W_h is one, used {uses} times: its gradient is a sum of {uses}")
