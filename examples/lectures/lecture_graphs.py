"""What several of the scripts share: how a graph is drawn, and how it is found out what depends on what.

Nothing here knows how a network is connected. Either the entries of a tape are drawn as they are; or a cell is put in
the place of a network's cells that multiplies what passes it by a small number, so that each derivative says through
how many steps it came: see :class:`CountingCell`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.tape import Output

BITS = 20
EPS = 2.0**-BITS

# Light boxes with dark text on them: legible on a white page and on a dark one.
BLUE, ORANGE, GREEN, GREY = "#a9d0ee", "#fbc99a", "#a8dfbf", "#d4d4d4"


class CountingCell(nn.Cell):
    """h' = ε (Σx + h): a derivative is then a sum of ε^steps, over the paths, and its order is the shortest of them."""

    state_size = 1

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        h = counted(x) + EPS * h
        self.watch(h=h)
        return h, h


def counted(x: Any) -> Any:
    """One step more: ε times the sum of the features."""
    return EPS * x.sum(axis=-1, keepdims=True)


def paths(y: tg.Tensor, xs: list[tg.Tensor]) -> list[tuple[int, int] | None]:
    """For each x: the steps on the shortest path to y, and how many such paths there are; None where there is none."""
    found: list[tuple[int, int] | None] = []
    for g in tg.gradients(y.sum(), xs, retain_graph=True):
        if not (size := float(g.sum())):
            found.append(None)
            continue
        steps = int(np.ceil(-np.log2(size) / BITS))  # size = n ε^steps (1 + O(ε)), and n is far below 1 / ε
        found.append((steps, round(size / EPS**steps)))
    return found


def edges(nodes: dict[Any, tg.Tensor]) -> list[tuple[Any, Any]]:
    """The pairs of names between which there is a path of one step."""
    names, tensors = list(nodes), list(nodes.values())
    found = []
    for b in names:
        if nodes[b].node.op is not None:  # a leaf is made of nothing
            steps = paths(nodes[b], tensors)
            found += [(a, b) for a, path in zip(names, steps) if a != b and path and path[0] == 1]
    return found


def shortest(nodes: dict, joined: list, start: Any, end: Any) -> tuple[int, int, list]:
    """The number of steps on the shortest paths from start to end, of such paths, and the edges that they take."""
    names = list(nodes)
    after = {name: path[0] for name, path in zip(names, paths(nodes[end], list(nodes.values()))) if path}
    steps, ways = paths(nodes[end], [nodes[start]])[0]
    before = {start: 0} | {b: path[0] for b in names for path in paths(nodes[b], [nodes[start]]) if b != start and path}
    taken = [(a, b) for a, b in joined if a in before and b in after and before[a] + 1 + after[b] == steps]
    return steps, ways, taken


SYMBOLS = {
    "add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "matmul": "@", "sum": "Σ", "power": "( )²",
    "sigmoid": "σ", "transpose": "T",
}  # fmt: skip


def of_tape(tape: tg.Tape, named: dict[str, tg.Tensor]) -> tuple[list, dict, list]:
    """The entries of a tape, what to write on each (its name, if it has one; its operation), and what joins them."""
    names = {tensor.node: name for name, tensor in named.items()}
    labels = {}
    for entry in tape:
        name = names.get(entry, "")
        if isinstance(entry, Output):
            labels[entry] = name or f"[{entry.kept}]"  # which of several
        else:
            labels[entry] = f"{name}  {SYMBOLS.get(entry.op.name, entry.op.name) if entry.op else ''}".strip()
    return list(tape), labels, [(parent, entry) for entry in tape for parent in entry.parents if parent is not None]


def way(a: Any, b: Any) -> list:
    """The edges of a tape from entry a to entry b, on the shortest way."""
    found, ways = [b], {b: []}
    for entry in found:  # which grows meanwhile
        if entry is a:
            return ways[a]
        for parent in entry.parents:
            if parent is not None and parent not in ways:
                ways[parent] = [(parent, entry), *ways[entry]]
                found.append(parent)
    raise ValueError("b was not made from a")


def draw(
    ax: Any, places: dict[Any, tuple], edges: Iterable[tuple], labels: dict, colors: dict, *, bold: Iterable = (),
    fontsize: float = 9, lean: float = -0.35,
) -> None:  # fmt: skip
    """Boxes at their places, and an arrow for each edge; those that would pass another box lean out."""
    bold = set(bold)
    for a, b in edges:
        passes = any(near(place, places[a], places[b]) for place in places.values())
        style = dict(color="C1", lw=2.0, zorder=2) if (a, b) in bold else dict(color="0.5", lw=0.9, zorder=1)
        ax.annotate(
            "", places[b], places[a],
            arrowprops=dict(arrowstyle="-|>", mutation_scale=9, shrinkA=fontsize, shrinkB=fontsize,
                            connectionstyle=f"arc3,rad={lean if passes else 0}", **style),
        )  # fmt: skip
    for name, (x, y) in places.items():
        box = dict(boxstyle="round,pad=0.25", facecolor=colors[name], edgecolor="0.5", linewidth=0.6)
        ax.text(x, y, labels[name], ha="center", va="center", fontsize=fontsize, color="0.1", bbox=box, zorder=3)
    across, up = zip(*places.values())
    ax.set(xlim=(min(across) - 0.6, max(across) + 0.6), ylim=(min(up) - 0.6, max(up) + 0.6))
    ax.axis("off")


def near(place: tuple, a: tuple, b: tuple) -> bool:
    """Whether the line from a to b passes by a place that is neither."""
    place, a, b = (np.array(p, float) for p in (place, a, b))
    along = (place - a) @ (b - a) / ((b - a) @ (b - a))
    return 0 < along < 1 and bool(np.linalg.norm(a + along * (b - a) - place) < 0.15)
