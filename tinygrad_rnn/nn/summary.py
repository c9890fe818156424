"""A table of what a model holds: its modules, the shapes of their weights, and how many numbers that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..tensor import Tensor
from .module import Module


@dataclass(frozen=True)
class Row:
    """The tensors that one module holds itself: of what shapes, how many numbers, how many of them are trained."""

    name: str
    kind: str
    shapes: dict[str, tuple[int, ...]]
    count: int
    trained: int


@dataclass(frozen=True)
class Summary:
    """What :func:`summary` says; shown as a table. ``rows`` has a :class:`Row` for each module with tensors."""

    rows: tuple[Row, ...]

    @property
    def total(self) -> int:
        """How many numbers the model holds."""
        return sum(row.count for row in self.rows)

    @property
    def trained(self) -> int:
        """How many of them are trained."""
        return sum(row.trained for row in self.rows)

    def __str__(self) -> str:
        held = [", ".join(f"{name} {shape}" for name, shape in row.shapes.items()) for row in self.rows]
        table = [("module", "kind", "weights", "numbers")]
        table += [(row.name or "·", row.kind, shapes, f"{row.count:,}") for row, shapes in zip(self.rows, held)]
        table += [("total", "", "", f"{self.total:,}")]
        if self.trained < self.total:
            table += [("trained", "", "", f"{self.trained:,}")]
        *wide, last = (max(map(len, column)) for column in zip(*table))
        lines = ["  ".join([*map(str.ljust, cells, wide), number.rjust(last)]) for *cells, number in table]
        return "\n".join(lines)

    __repr__ = __str__


def summary(model: Module) -> Summary:
    """The modules of a model that hold weights, with what they hold.

    What is shared counts once, where it comes first. Constants are counted, too, and weights that are frozen: ``total``
    is all, ``trained`` what training changes. (Each gate of a cell has two biases, as PyTorch's have. Textbooks and
    Keras have one: after ``cell.bias_hh = None`` so has a cell, and its number is theirs, such as 4 (h (x + 1) + h²) of
    an LSTM.)

    Parameters
    ----------
    model : Module
        Any module.

    Returns
    -------
    Summary
        Shown as a table. ``rows`` has an entry for each module with tensors: its ``name``, ``kind``, ``shapes``,
        ``count`` and ``trained``.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> class Tagger(nn.Module):
    ...     def __init__(self):
    ...         self.cell, self.readout = nn.LSTMCell(15, 16), nn.Linear(16, 8)
    >>> table = summary(Tagger())
    >>> table
    module   kind      weights                                                                        numbers
    cell     LSTMCell  weight_ih (64, 15), weight_hh (64, 16), bias_ih (64,), bias_hh (64,)             2,112
    readout  Linear    weight (8, 16), bias (8,)                                                          136
    total                                                                                               2,248
    >>> table.total
    2248
    """
    seen: set[Tensor] = set()
    rows = []
    for path, module in model.named_modules():
        held = {}
        for name, x in module.named_members():
            if isinstance(x, Tensor) and x not in seen:
                seen.add(x)
                held[name] = x
        if held:
            count = sum(math.prod(x.shape) for x in held.values())
            trained = sum(math.prod(x.shape) for x in held.values() if x.requires_grad)
            rows.append(Row(path, type(module).__name__, {name: x.shape for name, x in held.items()}, count, trained))
    return Summary(tuple(rows))
