"""
Five modes, and what in them depends on what
============================================

One to one, one to many, many to one, many to many at the same steps, and many to many apart: the same cell, and what
differs is which inputs there are, and which outputs count. The arrows are found, not drawn by hand, as in
:ref:`the graphs of architectures <sphx_glr_gallery_plot_architectures.py>`: the cell multiplies what passes it by ε,
and where a derivative is of the order of ε there is a path of one step. Thick is the shortest way from the first input
to the first output that counts. In translation all other words lie between the two, unless the input is read backward.
"""

# %%
# Each mode is written as a program would: a loop over steps, with the outputs that count. The decoder of the last two
# reads what it wrote a step before.

import matplotlib.pyplot as plt
import numpy as np
from lecture_graphs import BLUE, GREEN, GREY, CountingCell, counted, draw, edges, shortest

import tinygrad_rnn as tg

cell, NOTHING, START = CountingCell(), np.zeros((1, 1)), np.zeros((1, 1))


def run(given: int, steps: int, first: int, feedback: bool = False, backward: bool = False) -> dict:
    """What there is in so many steps, by name: the inputs given, all states, the outputs from the first that counts."""
    nodes = {f"x{t}": tg.tensor(np.ones((1, 1)), requires_grad=True) for t in range(1, given + 1)}
    words = list(nodes.values())[:: -1 if backward else 1]
    h, word = START, None
    for t in range(1, steps + 1):
        x = words[t - 1] if t <= given else word if feedback and word is not None else NOTHING
        _, h = cell.step(x, h)
        nodes[f"h{t}"] = h
        if t >= first:
            word = nodes[f"y{t - first + 1}"] = counted(h)
    return nodes


MODES = {
    "one to one": run(given=1, steps=1, first=1),
    "one to many: a caption of a picture": run(given=1, steps=4, first=1),
    "many to one: what is said, in a word": run(given=4, steps=4, first=4),
    "many to many, aligned: a tag for each word": run(given=4, steps=4, first=1),
    "many to many, apart: translation": run(given=4, steps=8, first=5, feedback=True),
    "the same, the input read backward": run(given=4, steps=8, first=5, feedback=True, backward=True),
}

# %%
# A state stands at its step, an input below the state that reads it, an output above the one it is made of.


def placed(nodes: dict, joined: list) -> dict:
    places = {name: (int(name[1:]), 1) for name in nodes if name[0] == "h"}
    for a, b in joined:
        if a[0] == "x":
            places[a] = (places[b][0], 0)
        if b[0] == "y":
            places[b] = (places[a][0], 2)
    return places


figure, all_axes = plt.subplots(3, 2, figsize=(10, 8), layout="constrained", width_ratios=[1, 1])
COLORS = {"x": GREY, "h": BLUE, "y": GREEN}
for ax, (name, nodes) in zip(all_axes.flat, MODES.items()):
    joined = edges(nodes)
    steps, ways, taken = shortest(nodes, joined, "x1", "y1")
    places, labels = placed(nodes, joined), {node: node if node[0] != "h" else "h" for node in nodes}
    draw(ax, places, joined, labels, {node: COLORS[node[0]] for node in nodes}, bold=taken)
    ax.set_title(f"{name}\nx1 to y1 in {steps} steps", fontsize=10)
    across = [x for x, _ in places.values()]
    middle = (min(across) + max(across)) / 2
    ax.set_xlim(middle - 4.1, middle + 4.1)  # of one scale, in all
