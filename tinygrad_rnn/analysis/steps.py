"""The steps of a cell over a sequence, as maps of one vector: what ``jacobians.py`` and ``lyapunov.py`` look at.

A state may be a nest of tensors, some of them of whole numbers (a clock). Here it is one matrix (batch, size) of its
floating-point numbers; the others are constants. Also what all of this room brings its results to the host with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import trees
from ..arrays import has_gradient, is_array, move
from ..errors import ShapeError, described
from ..modes import no_grad
from ..nn import Module, scan
from ..nn.recurrent import checked_sequence, drawn_from, name_of, prepared
from ..ops import concatenate, split
from ..ops.checkpoint import drawn_again
from ..progress import counted
from ..tensor import bare, tensor
from ..transforms import pulled, recording

AT_ONCE = 2**21  # numbers in the Jacobians that are made at once


class Flat:
    """States like one, (batch, ...) each tensor, as matrices (batch, size) of their floating-point numbers.

    Parameters
    ----------
    like : tree of tensors
        A state of that cell.
    constant : list of bool, optional
        Which of its tensors no step changes: the masks of a dropout, say.
    """

    def __init__(self, like: Any, constant: list[bool] | None = None):
        leaves, self.rebuild = trees.flatten(like)
        constant = constant or [False] * len(leaves)
        self.is_float = [has_gradient(bare(part).dtype) and not same for part, same in zip(leaves, constant)]
        floats = [part for part, own in zip(leaves, self.is_float) if own]
        sizes = [int(np.prod(part.shape[1:], dtype=int)) for part in floats]
        self.size, self.cuts, self.shapes = sum(sizes), np.cumsum(sizes)[:-1].tolist(), [p.shape[1:] for p in floats]
        names = [path for path, own in zip(trees.paths(like, "state"), self.is_float) if own]
        self.parts = {name: slice(end - n, end) for name, end, n in zip(names, np.cumsum(sizes).tolist(), sizes)}

    def join(self, state: Any, axes: int = 1) -> Any:
        """The matrix of a state; axes: how many come before those of the numbers, such as 2 for (time, batch)."""
        parts = [part for part, own in zip(trees.flatten(state)[0], self.is_float) if own]
        parts = [part if part.ndim == axes + 1 else part.reshape(*part.shape[:axes], -1) for part in parts]
        return parts[0] if len(parts) == 1 else concatenate(parts, axis=-1)

    def constants(self, state: Any) -> list:
        """What is constant in a state, or no floating-point number."""
        return [part for part, own in zip(trees.flatten(state)[0], self.is_float) if not own]

    def state(self, matrix: Any, constants: list) -> Any:
        """The state of a matrix, and of what is constant."""
        parts = split(matrix, self.cuts, axis=-1) if self.cuts else [matrix]
        floats = iter([p if len(s) == 1 else p.reshape(p.shape[0], *s) for p, s in zip(parts, self.shapes)])
        constants = iter(constants)
        return self.rebuild([next(floats) if own else next(constants) for own in self.is_float])


@dataclass(frozen=True, eq=False)
class Steps:
    """A sequence that has been run: the inputs, and the states before and after each step, (time, batch, ...)."""

    name: str
    step: Callable
    flat: Flat
    xs: Any
    before: Any
    after: Any

    def jacobians(self, progress: bool) -> Iterator[np.ndarray]:
        """∂s_t/∂s_{t-1}, (steps, batch, size, size), for some steps at once, from the first to the last."""
        time, batch = self.xs.shape[:2]
        many = max(1, AT_ONCE // max(1, batch * self.flat.size**2))
        for begin in counted(range(0, time, many), progress, f"Jacobians of {self.name}", "part"):
            yield self._some(slice(begin, begin + many))

    def _some(self, steps: slice) -> np.ndarray:
        """Each row of the batch is repeated, once for each number of the state after it, of which it is to be the
        gradient: so one step and one walk back give all rows of the matrices."""
        size, flat = self.flat.size, self.flat
        x, before, after = (trees.map(lambda p: p[steps], tree) for tree in (self.xs, self.before, self.after))
        time, batch = x.shape[:2]

        def rows(part: Any) -> Any:
            return np.repeat(part.reshape(time * batch, *part.shape[2:]), size, axis=0)

        state = trees.map(rows, before)
        given = tensor(bare(flat.join(state)), requires_grad=True)
        with recording():
            made = self.step(rows(x), flat.state(given, flat.constants(state)))[1]
            made = flat.join(made)
        check_same(self.name, bare(made), trees.map(rows, after), flat)
        seeds = np.zeros_like(bare(given), shape=(time * batch, size * size))
        seeds[:, :: size + 1] = 1
        (rows_of_it,) = pulled(made, seeds.reshape(-1, size), [given], create_graph=False)
        return host(rows_of_it).reshape(time, batch, size, size)


def steps_of(cell: Any, xs: Any, state: Any = None) -> Steps:
    """Run a cell over a sequence, unrecorded, and keep its states. What cannot be looked at step by step is refused."""
    data = bare(checked_sequence(xs))
    if not len(data):
        raise ValueError(f"xs: expected at least one step, got {described(xs)}: the first axis is time")
    if data.ndim < 2 or (data.ndim != 3 and getattr(cell, "input_size", None) is not None):
        hint = ": of one sequence, xs[:, None]" if data.ndim < 3 else ""
        raise ShapeError(f"xs: expected (time, batch, features), got {described(xs)}{hint}")
    if not data.shape[1]:
        raise ValueError(f"xs: expected at least one sequence, got {described(xs)}: the second axis is the batch")
    with no_grad(), drawing_nothing(cell):
        cell, data, state, *_ = prepared(cell, data, state)
        check_batch(name_of(cell), state, data.shape[1])
        fresh = trees.map(lambda part: tensor(bare(part)), state)  # of one object in two places, each has its own
        first = cell.step(data[0], fresh)[1]
        _, _, after = scan(cell, data, state, states=True)
    leaves = zip(*(trees.flatten(s)[0] for s in (fresh, first, after)))
    flat = Flat(state, [new is old and bool((bare(all_) == bare(old)).all()) for old, new, all_ in leaves])
    if not flat.parts:
        raise TypeError(f"{name_of(cell)}: state: expected floating-point numbers in it, which steps change")
    state, after = trees.map(bare, state), trees.map(bare, after)
    check_finite(name_of(cell), after)
    before = trees.map(lambda first, s: np.concatenate([first[None], s[:-1]]), state, after)
    return Steps(name_of(cell), cell.step, flat, data, before, after)


# What is refused ------------------------------------------------------------------------------------------------------


@contextmanager
def drawing_nothing(module: Any) -> Iterator[None]:
    """Raise a ValueError, if a block has drawn from the generators of a module; they are as they were before."""
    with drawn_again(drawn_from(module) if isinstance(module, Module) else []) as drawn:
        yield
        has_drawn = drawn()
    if has_drawn:
        raise ValueError(f"{type(module).__name__}: it draws random numbers (dropout, noise), so that a step is no "
                         "function of its input and state: call .eval() before")  # fmt: skip


def check_batch(name: str, state: Any, batch: int) -> None:
    for path, part in zip(trees.paths(state, "state"), trees.flatten(state)[0]):
        if not is_array(bare(part)) or part.shape[:1] != (batch,):
            raise ShapeError(f"{name}: {path}: expected a tensor with an axis of {batch} sequences first, as xs has, "
                             f"got {described(part)}")  # fmt: skip


def check_finite(name: str, after: Any) -> None:
    """Raise a FloatingPointError that names the first step whose state is not finite. after: (time, batch, ...)."""
    for part in trees.flatten(after)[0]:
        if part.dtype.kind == "f" and not (finite := np.isfinite(part)).all():
            t = int((~finite).reshape(len(part), -1).any(axis=1).argmax())
            raise FloatingPointError(f"{name}: the state is not finite after step {t} (of {len(part)}, from 0): "
                                     "tg.anomaly() says which operation it was")  # fmt: skip


def check_same(name: str, made: Any, after: Any, flat: Flat) -> None:
    """Raise a ValueError, if a step of many rows at once has not given what the scan gave."""
    expected = bare(flat.join(after))
    tolerance = np.sqrt(np.finfo(expected.dtype).eps)
    made, expected = host(made), host(expected)
    error = np.abs(made - expected).max(initial=0)
    if not error <= tolerance * max(1.0, np.abs(expected).max(initial=0)):
        raise ValueError(f"{name}: a step from the same state and input gave another state, when it was made of other "
                         f"sequences at once (by {error:.2g}): expected one that depends on nothing else, not "
                         "on the other rows of a batch, on chance, or on what it has kept")  # fmt: skip


# The host -------------------------------------------------------------------------------------------------------------


def host(x: Any) -> np.ndarray:
    """A tensor or an array in the host's memory, in double precision: the norms of small numbers are smaller still."""
    return move(bare(x), "cpu").astype(np.float64)


def named(results: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The result of that name; a KeyError that says which there are."""
    if name not in results:
        raise KeyError(f"name: expected one of {list(results)}, got {name!r}")
    return results[name]


def norms(x: np.ndarray, axes: int) -> np.ndarray:
    """The Euclidean norms over all but the first axes: scaled, so that no square underflows or overflows."""
    x = np.abs(x).reshape(*x.shape[:axes], -1)
    largest = x.max(axis=-1, initial=0.0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    return scale * np.sqrt(((x / scale[..., None]) ** 2).sum(axis=-1))
