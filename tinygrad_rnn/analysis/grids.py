"""A grid of points, in a plane of the states or on a line, and the map that takes all of them one step further."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError, described, whole
from ..nn import Cell
from ..ops import reshape
from . import given
from .maps import as_map, map_of


class Plane:
    """Points on a grid, rows (n, d), in a plane of the states, or on a line. what: the points that f is a map of."""

    def __init__(self, f: Any, xlim: Any, ylim: Any, x: Any, origin: Any, plane: Any, resolution: int, what: str):
        cell = isinstance(f, Cell)
        if not cell and x is not None:
            raise TypeError("x: an input is for a cell; a function has it in itself")
        self.f = as_map(f, x) if cell else map_of(f, what=what)
        resolution = whole("resolution", resolution, 2)
        self.xs = np.linspace(*given.interval("xlim", xlim), resolution)
        self.ys = None if ylim is None else np.linspace(*given.interval("ylim", ylim), resolution)
        dimensions = 1 if ylim is None else 2
        size = getattr(self.f, "size", None)
        self.origin = np.zeros(size or dimensions) if origin is None else given.floats("origin", origin, (1,), ", (d,)")
        d = len(self.origin)
        if size not in (None, d):
            raise ShapeError(f"origin: expected {size} numbers, as many as the state has, got {d}")
        if d < dimensions:
            raise ValueError("ylim: the states here have one number: leave it out")
        self.plane = np.eye(d)[:dimensions] if plane is None else given.floats("plane", plane, (2,), ", (2, d)")
        if self.plane.shape != (dimensions, d) or np.linalg.matrix_rank(self.plane) < dimensions:
            raise ShapeError(f"plane: expected {dimensions} directions of {d} numbers, independent of each other, got "
                             f"{described(self.plane)}")  # fmt: skip
        self.shape = (resolution,) if ylim is None else (resolution, resolution)
        places = np.stack([c.ravel() for c in np.meshgrid(self.xs, *([] if ylim is None else [self.ys]))], axis=1)
        self.starts = self.origin + places @ self.plane

    def in_plane(self, points: np.ndarray) -> np.ndarray:
        """Their two coordinates; numbers lie at height 0."""
        places = np.linalg.lstsq(self.plane.T, (points - self.origin).T, rcond=None)[0].T
        return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


class Grid(Plane):
    """Starts on a grid, and the map of all of them at once."""

    def __init__(self, f: Any, xlim: Any, ylim: Any, x: Any, origin: Any, plane: Any, resolution: int):
        super().__init__(f, xlim, ylim, x, origin, plane, resolution, "of rows")
        self.numbers = ylim is None and not isinstance(f, Cell) and len(self.origin) == 1
        together, alone = self.step(self.starts[:3]), self.step(self.starts[:1])
        if not np.allclose(together[:1], alone, rtol=1e-6, atol=1e-9, equal_nan=True):
            raise ShapeError("f: expected a map of each row by itself: what it makes of the first of three rows is "
                             "something else than of that row alone")  # fmt: skip

    def map(self, states: Any) -> Any:
        return reshape(self.f(reshape(states, (-1,))), (-1, 1)) if self.numbers else self.f(states)

    def alone(self, state: Any) -> Any:
        """The map of one state, (d,)."""
        return reshape(self.map(reshape(state, (1, -1))), (-1,))

    def step(self, states: np.ndarray) -> np.ndarray:
        try:
            return given.value_of(self.f, states[:, 0])[:, None] if self.numbers else given.value_of(self.f, states)
        except ValueError as error:
            error.add_note("f gets all starts as one batch, " + ("(n,): numbers" if self.numbers else
                           "(n, d), a row each: write x @ W.T where W @ x is meant"))  # fmt: skip
            raise
