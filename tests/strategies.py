"""What the tests of the operations are run on: shapes, axes, indices, numbers and layouts.

Every choice is an integer from a :class:`Source`: Hypothesis gives it, and makes it small when a test fails, or a
generator with a seed does. Numbers in bulk come from a NumPy generator, whose seed is one more choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

SIDES = (2, 3, 1, 4, 2, 3, 1, 2, 3, 4, 2, 0)


class Source:
    """Where choices come from: ``integer(low, high)``, both included. All else is made of that."""

    def __init__(self, integer: Callable[[int, int], int]):
        self.integer = integer
        self.rng = np.random.default_rng(integer(0, 2**20))

    @classmethod
    def seeded(cls, seed: int) -> Source:
        rng = np.random.default_rng(seed)
        return cls(lambda low, high: int(rng.integers(low, high + 1)))

    def choose(self, *options: Any) -> Any:
        """One of the options. When a test fails, Hypothesis tries the first of them."""
        return options[self.integer(0, len(options) - 1)]

    def some(self, items: Sequence) -> tuple:
        """At least one of the items, in order."""
        bits = self.integer(1, 2 ** len(items) - 1)
        return tuple(x for i, x in enumerate(items) if bits >> i & 1)

    def order(self, n: int) -> list[int]:
        return self.rng.permutation(n).tolist()

    # Shapes

    def shape(self, least: int = 0, most: int = 3, sides: Sequence[int] = SIDES) -> tuple[int, ...]:
        return tuple(self.choose(*sides) for _ in range(self.choose(*range(least, most), most, most)))

    def shapes(self, n: int, sides: Sequence[int] = SIDES) -> list[tuple[int, ...]]:
        """Shapes that broadcast against each other: in any of them axes in front may be left out, and lengths be 1."""
        full = self.shape(sides=sides)
        if self.integer(0, 2) == 0:
            return [full] * n

        def part() -> tuple[int, ...]:
            kept = full[self.integer(0, len(full)) :] if self.integer(0, 1) else full
            ones = self.integer(0, 2 ** len(kept) - 1)
            return tuple(1 if ones >> i & 1 else side for i, side in enumerate(kept))

        return [part() for _ in range(n)]

    # Numbers

    def array(self, shape: tuple, low: float = -3, high: float = 3) -> np.ndarray:
        return self.rng.uniform(low, high, shape)

    def apart(self, shape: tuple, low: float = 0.1, high: float = 3) -> np.ndarray:
        """Numbers of either sign, whose size is between low and high: away from 0."""
        return self.array(shape, low, high) * self.rng.choice([-1.0, 1.0], shape)

    def between_steps(self, shape: tuple, step: float = 1.0) -> np.ndarray:
        """Numbers away from the multiples of a step, and from those and a half."""
        halves = self.rng.integers(-6, 6, shape)
        return (halves + self.array(shape, 0.1, 0.9)) * (step / 2)

    def distinct(self, *shapes: tuple) -> list[np.ndarray]:
        """Arrays of numbers no two of which are close, nor close to 0."""
        sizes = [math.prod(shape) for shape in shapes]
        n = sum(sizes) + 1
        numbers = (self.rng.permutation(n) - n // 2 + self.array((n,), 0.35, 0.65)) * (6 / n)
        cuts = np.cumsum(sizes)
        return [numbers[end - size : end].reshape(shape) for end, size, shape in zip(cuts, sizes, shapes)]

    # Axes

    def axis(self, ndim: int) -> int:
        """An axis, counted from the front or from the back."""
        return self.integer(0, ndim - 1) - ndim * self.integer(0, 1)

    def axes(self, ndim: int) -> Any:
        """None, an axis, or a tuple of some, or none, in any order, each counted from either end."""
        kind = self.choose("none", "one", "tuple", "one")
        if kind == "none":
            return None
        if kind == "one" and ndim:
            return self.axis(ndim)
        picked = self.order(ndim)[: self.integer(0, ndim)]
        return tuple(i - ndim * self.integer(0, 1) for i in picked)

    # Indices

    def index(self, shape: tuple, repeats: bool = True) -> Any:
        """An index of an array of this shape: integers, slices, None, ..., arrays (places twice) and boolean masks."""
        ndim = len(shape)
        if ndim and self.integer(0, 6) == 6:
            return self.rng.random(shape[: self.integer(1, ndim)]) < 0.6  # a mask of the leading axes
        front = self.integer(0, ndim)
        back = self.integer(0, ndim - front) if self.integer(0, 3) == 3 else None
        axes = [*range(front), *([] if back is None else [..., *range(ndim - back, ndim)])]
        count = self.choose(0, 1, 1, 2) if repeats else self.integer(0, 1)  # of index arrays, which broadcast
        listed = [axis for axis in axes if axis is not ... and shape[axis]][:count]
        common = self.shape(0, 2, sides=(2, 3, 1, 4))
        parts: list[Any] = []
        for axis in axes:
            if axis is ...:
                parts.append(...)
            elif axis in listed:
                n = shape[axis]
                if repeats:
                    places = self.rng.integers(-n, n, common[self.integer(0, len(common)) :])
                else:
                    places = self.rng.permutation(n)[: self.integer(0, n)]
                parts.append(places.tolist() if places.ndim and self.integer(0, 3) == 3 and places.size else places)
            else:
                n = shape[axis]
                parts.append(self.integer(-n, n - 1) if n and self.integer(0, 2) == 2 else self.slice(n))
        if self.integer(0, 3) == 3:
            parts.insert(self.integer(0, len(parts)), None)
        return parts[0] if len(parts) == 1 and self.integer(0, 1) else tuple(parts)

    def slice(self, n: int) -> slice:
        """With bounds inside and outside the axis, from either end, and steps of either sign."""
        bounds = (None, *range(-n - 1, n + 2))
        return slice(self.choose(*bounds), self.choose(*bounds), self.choose(None, 1, 2, -1, -2))

    # Layouts

    def layout(self, array: np.ndarray, repeated: bool = True) -> np.ndarray:
        """The same shape in memory of another order. A layout with steps of 0 (``repeated``) has other numbers, too."""
        kind = self.choose("F", "reversed", "sliced", "transposed", *["repeated"] * repeated)
        if array.ndim == 0:
            return array.copy()
        if kind == "F":
            return np.asfortranarray(array)
        if kind == "reversed":
            return np.flip(np.flip(array).copy())
        if kind == "sliced":
            wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1] + 1), array.dtype)
            wide[..., 1::2] = array
            return wide[..., 1::2]
        if kind == "transposed":
            order = self.order(array.ndim)
            return array.transpose(order).copy().transpose(np.argsort(order))
        axis = self.integer(0, array.ndim - 1)
        return np.broadcast_to(array.take(range(min(1, array.shape[axis])), axis), array.shape)


def cases(draw: Callable[[Source], tuple]) -> st.SearchStrategy:
    """What ``draw(source)`` returns (arrays and keywords), by Hypothesis; and a source with a seed, for all else."""

    @st.composite
    def case(integer: Callable) -> tuple[tuple, dict, Source]:
        arrays, keywords = draw(Source(lambda low, high: integer(st.integers(low, high))))
        return arrays, keywords, Source.seeded(integer(st.integers(0, 2**32 - 1)))

    return case()
