"""
An LSTM and a GRU, drawn from the tape of a step
================================================

The diagrams that every lecture on gated networks has, but nobody drew them: they are the entries that one step leaves
on the tape, in layers from left to right. Left out are the weights, and what depends on nothing but them. The thick
arrows are the shortest way from a state to the next: in an LSTM a product with the forget gate and a sum, without a
matrix and without a squashing function. This is the constant error carousel. A GRU has its own way by: h is mixed with
what is new.
"""

# %%
# One step of each, and its tape. The package's cells show their gates to whoever watches, so the entries get names.

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from lecture_graphs import BLUE, GREEN, GREY, ORANGE, draw, of_tape, way

import tinygrad_rnn as tg
from tinygrad_rnn import nn

COLORS = {"x": ORANGE, "h": BLUE, "c": BLUE, "h'": BLUE, "c'": BLUE}
HEIGHTS = {"x": -1, "h": 1, "c": 3}


def start(*names: str) -> dict[str, tg.Tensor]:
    return {name: tg.tensor(np.zeros((1, 4), np.float32), requires_grad=True) for name in names}


def lstm() -> tuple[dict, dict]:
    leaves = start("x", "h", "c")
    x, *state = leaves.values()
    with nn.watching() as seen:
        _, (h, c) = nn.LSTMCell(4, 4, rng=0)(x, tuple(state))
    return leaves, {"c'": c, "h'": h} | {gate: seen[gate][0] for gate in "ifgo"}


def gru() -> tuple[dict, dict]:
    leaves = start("x", "h")
    with nn.watching() as seen:
        _, h = nn.GRUCell(4, 4, rng=0)(*leaves.values())
    return leaves, {"h'": h} | {gate: seen[gate][0] for gate in "rzn"}


# %%
# An entry stands one layer to the right of the last of its parents, and at their mean height; the outputs of a split
# are spread out, and whoever stands too near to another is pushed away.


def layered(entries: list, joined: list, heights: dict) -> dict:
    """A place for each entry; heights: of those without parents."""
    parents = {b: [a for a, other in joined if other is b] for b in entries}
    children = {a: [b for other, b in joined if other is a] for a in entries}
    layer, height = {}, dict(heights)
    for entry in entries:
        layer[entry] = 1 + max((layer[a] for a in parents[entry]), default=-1)
    for leaf in heights:  # as near as can be to what is made of it
        layer[leaf] = min(layer[b] for b in children[leaf]) - 1
    for depth in range(1 + max(layer.values())):
        here = [entry for entry in entries if layer[entry] == depth]
        for entry in here:
            among = [b for b in children[parents[entry][0]] if layer[b] == depth] if parents[entry] else [entry]
            aside = among.index(entry) - (len(among) - 1) / 2 if len(parents[entry]) == 1 else 0
            height.setdefault(entry, np.mean([height[a] for a in parents[entry]] or [0]) - 1.2 * aside)
        here.sort(key=height.get)
        for below, above in pairwise(here):
            height[above] = max(height[above], height[below] + 0.8)
    return {entry: (1.25 * layer[entry], height[entry]) for entry in entries}


figure, all_axes = plt.subplots(2, 1, figsize=(9, 8.4), layout="constrained")
for ax, name, cell, through in (all_axes[0], "LSTM", lstm, "c"), (all_axes[1], "GRU", gru, "h"):
    leaves, made = cell()
    tape = tg.tape(made["h'"])
    print(f"{name}, one step\n{tape}\n")
    entries, labels, joined = of_tape(tape, leaves | made)
    reached = {leaf.node for leaf in leaves.values()}
    for entry in entries:
        if not reached.isdisjoint(entry.parents):
            reached.add(entry)
    entries, joined = [e for e in entries if e in reached], [edge for edge in joined if edge[0] in reached]
    colors = dict.fromkeys(entries, GREY) | {made[gate].node: GREEN for gate in made}
    colors |= {tensor.node: COLORS[key] for key, tensor in (leaves | made).items() if key in COLORS}
    places = layered(entries, joined, {leaf.node: HEIGHTS[key] for key, leaf in leaves.items()})
    bold = way(leaves[through].node, made[through + "'"].node)
    draw(ax, places, joined, labels, colors, bold=bold, fontsize=9, lean=-0.34)
    passes = ", ".join(entry.op.name for _, entry in bold)
    ax.set_title(f"{name}: from {through} to {through}' a gradient need pass no more than: {passes}")
