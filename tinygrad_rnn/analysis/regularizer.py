"""A regulariser that keeps gradients from vanishing (Pascanu, Mikolov and Bengio, 2013), exactly.

It is made of derivatives, and is differentiated like anything else. The steps back are a scan of their own, from the
last step to the first, whose step is a gradient of the cell's: so they are compiled, and differentiated through, as the
steps ahead are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import trees
from ..arrays import has_gradient
from ..errors import ShapeError, described
from ..nn import Cell, Module, scan
from ..nn.recurrent import cells_of, checked_sequence
from ..ops import concatenate, split, sqrt, where
from ..tensor import Tensor, bare
from ..transforms import grad
from .steps import Flat, drawing_nothing

VANISHED = 1e-20  # a gradient of this norm has no direction any more


class Back(Cell):
    """A step back in time of a cell: from (x_k, s_{k-1}) and δ_k to (∂s_k/∂s_{k-1})ᵀ δ_k, and on from there.

    With ``direct``, the input has besides, last, what the loss of step k - 1 itself adds to that: then the output is
    without it, and the state with it.
    """

    def __init__(self, cell: Cell, flat: Flat, sizes: list[int], direct: bool):
        self.cell, self.flat, self.sizes, self.direct = cell, flat, sizes, direct
        self.state_size, self.input_size = flat.size, sum(sizes)

    def step(self, x: Any, delta: Any) -> tuple[Any, Any]:
        parts = split(x, np.cumsum(self.sizes)[:-1].tolist(), axis=-1)
        x, s = parts[:2]

        def ahead(s: Any) -> Any:
            return (self.flat.join(self.cell.step(x, self.flat.state(s, []))[1]) * delta).sum()

        passed = grad(ahead)(s)
        return passed, passed + parts[2] if self.direct else passed


def gradient_regularizer(cell: Cell, xs: Any, states: Any, last: Any, *, compiled: Any = "auto") -> Tensor:
    """The regulariser Ω, which asks that a step back in time leaves the norm of the gradient as it is.

    It is 0 where no gradient shrinks or grows::

        Ω = mean over k of (‖(∂s_k/∂s_{k-1})ᵀ δ_k‖ / ‖δ_k‖ - 1)²        δ_k = ∂E/∂s_k,  k = 2 ... T

    The mean is over the steps and sequences where the gradient has not vanished altogether. To train with it, add it to
    the loss, times a weight: its own derivative, in which δ_k depends on the weights as well, is exact. (The paper
    takes one in which s and δ_k are constants.)

    Parameters
    ----------
    cell : Cell
        Any cell whose state is of floating-point numbers; in the mode ``eval()``, if it draws random numbers.
    xs : array or Tensor, (time, batch, features)
        The inputs.
    states : tree of tensors, (time, batch, ...)
        The states after each step, as ``nn.scan(cell, xs, states=True)`` returns them; of a simple cell, the outputs.
    last : tree of tensors
        The gradient of the loss by the last state, (batch, ...); or by all states, (time, batch, ...), where other
        steps have a loss, too: that which does not come from later steps, as ``tg.gradients(loss, states)`` gives it.
        Computed with ``create_graph=True``, if Ω is to be differentiated. Where a state is a tuple, compute the loss
        from ``states``: so each tensor counts by itself, and not c for what h owes to it.
    compiled : optional
        As of :func:`~tinygrad_rnn.scan`.

    Returns
    -------
    Tensor
        Ω, a single number; 0 where there is but one step.

    Raises
    ------
    ValueError
        The cell draws random numbers.

    References
    ----------
    R. Pascanu, T. Mikolov, Y. Bengio: On the difficulty of training recurrent neural networks. ICML 2013, section 3.3.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.RNNCell(2, 8, rng=0, dtype=np.float64), np.ones((50, 3, 2))
    >>> hs, _ = tg.scan(cell, xs)
    >>> last = hs[-1]
    >>> loss = (last * last).mean()
    >>> omega = gradient_regularizer(cell, xs, hs, tg.gradients(loss, last, create_graph=True))
    >>> (loss + 2.0 * omega).backward()
    >>> bool(0 < omega.data < 1), cell.weight_hh.grad.shape
    (True, (8, 8))
    """
    if not isinstance(cell, Cell):
        hint = cells_of(cell) if isinstance(cell, Module) else ""
        raise TypeError(f"cell: expected a Cell, got {type(cell).__name__ if hint else described(cell)}{hint}")
    data = checked_sequence(xs)
    floats = [has_gradient(bare(part).dtype) for part in trees.flatten(states)[0]]
    if data.ndim != 3 or not len(data) or not has_gradient(data.dtype):
        raise ShapeError(f"xs: expected floating-point numbers (time, batch, features), got {described(xs)}")
    if not floats or not all(floats):
        raise TypeError(f"states: expected tensors of floating-point numbers, got {described(states)}: a state with a "
                        "clock has no gradient there")  # fmt: skip
    check_like("states", states, data)
    one = trees.map(lambda part: part[0], states)
    flat = Flat(one)
    ss = flat.join(states, 2)
    everywhere = [getattr(part, "ndim", 0) for part in trees.flatten(last)[0]] == [
        part.ndim for part in trees.flatten(states)[0]
    ]
    trees.map(lambda like, part: same_shape(like, part), states if everywhere else one, last, name="last")
    direct = flat.join(last, 2)[:-1] if everywhere else None
    last = flat.join(last, 2)[-1] if everywhere else flat.join(last)

    parts = [xs[1:], ss[:-1]] + ([direct] if everywhere else [])  # (x_k, s_{k-1}), k = 2 ... T
    back = Back(cell, flat, [part.shape[-1] for part in parts], everywhere)
    with drawing_nothing(cell):
        passed, _ = scan(back, concatenate(parts, axis=-1), last, reverse=True, compiled=compiled)
    return omega(concatenate([passed, last[None]]), direct)


def omega(passed: Tensor, direct: Any) -> Tensor:
    """Ω from what has been passed back to each step, (time, batch, size), and what was added there."""
    norms_passed, alive_passed = sizes(passed)
    norms_there, alive_there = norms_passed, alive_passed
    if direct is not None:
        norms_there, alive_there = sizes(concatenate([passed[:-1] + direct, passed[-1:]]))
    alive = alive_there[1:] & alive_passed[:-1]
    return (where(alive, norms_passed[:-1] / norms_there[1:] - 1, 0.0) ** 2).sum() / max(alive.sum(), 1)


def sizes(deltas: Tensor) -> tuple[Tensor, Any]:
    """The norms of gradients, scaled, so that no square overflows; and whether they have not vanished."""
    largest = abs(bare(deltas)).max(axis=-1)
    alive = largest > VANISHED
    scale = np.where(alive, largest, np.ones_like(largest))
    scaled = deltas / scale[..., None]
    return sqrt(where(alive, (scaled * scaled).sum(axis=-1), 1.0)) * scale, alive


def check_like(name: str, tree: Any, xs: Any) -> None:
    for path, part in zip(trees.paths(tree, name), trees.flatten(tree)[0]):
        if part.shape[:2] != xs.shape[:2] or part.dtype != xs.dtype:
            raise ShapeError(f"{path}: expected {xs.dtype} (time, batch, ...), {xs.shape[:2]}, as xs has them, got "
                             f"{described(part)}: nn.scan(cell, xs, states=True) returns all states")  # fmt: skip


def same_shape(like: Any, part: Any) -> None:
    if getattr(part, "shape", None) != like.shape or part.dtype != like.dtype:
        raise ShapeError(f"last: expected {described(like)}, like the last state, or like all of them, got "
                         f"{described(part)}")  # fmt: skip
