"""A loop is run strip by strip: over so many steps at once that what it computes beside the results stays small.

What is computed before a loop, or after it, for all steps at once, needs room for all steps. So it is done for the
steps of one strip, then the loop runs over these, and what comes after it is done for them; and so on. Only what is
given away, or kept for the backward pass, ever has room for a whole sequence. Totals over time are summed up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np

from .graph import Value
from .loops import Loop, Place

STRIP = 1 << 19
"""How many bytes the arrays of a strip may take: what stays in a processor's own cache, measured to be the fastest; or
a quarter of what the totals take, if that is more, since adding them up costs something, too."""


class Strips:
    """One direction of a program, as it is run.

    Parameters
    ----------
    loop : Loop
        What is run.
    function : callable
        The function that was written of it.
    arguments : sequence of str
        The arrays that this takes.
    kept : container of str
        Those that somebody reads later, in all of their length.
    """

    def __init__(self, loop: Loop, function: Callable, arguments: Sequence[str], kept: Container[str]):
        self.loop, self.function, self.arguments = loop, function, arguments
        places = [*loop.places.values(), *loop.buffers.values()]
        self.timed = {place.array: place.more for place in places if place.time}
        self.new = {loop.places[v].array for v in loop.given_away if v in loop.places} & {*loop.buffers}
        self.whole = {self._home(name) for name in loop.buffers if name in kept} | self.new

    def _home(self, name: str) -> str:
        return self.loop.homes[name].array if name in self.loop.homes else name

    def of(self, time: int, whole: Container[str]) -> list[tuple[int, int]]:
        """From which step to which each strip goes, in the order of the loop."""
        loop = self.loop
        own = [p for name, p in loop.buffers.items() if p.time and name not in loop.homes and name not in whole]
        step, totals = sum(map(size, own)), sum(map(size, loop.totals))
        count = max(1, min(time, -(-time * step // max(STRIP, totals // 4))))
        ends = [time * i // count for i in range(count + 1)]
        strips = [*itertools.pairwise(ends)]
        return strips[::-1] if loop.reverse else strips

    def _is_own(self, name: str, whole: Container[str]) -> bool:
        """Whether an array is there for a strip alone."""
        return name in self.loop.buffers and self._home(name) in self.loop.buffers and self._home(name) not in whole

    def run(
        self, arrays: dict[str, np.ndarray], first: dict[Value, Any], time: int, pool: dict, keep: bool = True
    ) -> tuple[list, dict[Value, np.ndarray], list]:
        """The results, the last of what is carried over, and the totals. What is kept, is in ``arrays`` afterwards."""
        loop, sums = self.loop, []
        whole = self.whole if keep else self.new
        strips, at = self.of(time, whole), -1 if loop.reverse else 0
        self._provide(arrays, whole, time, -(-time // len(strips)), pool)
        state, parts = [first[carry.before] for carry in loop.carries], []
        for start, stop in strips:
            here = self._views(arrays, whole, start, stop)
            for carry, value in zip(loop.carries, state):
                here[carry.array][at if carry.kept else ...] = value
            found = self.function(stop - start, *[here[name] for name in self.arguments])
            n = len(found) - len(loop.totals)
            parts.append(found[: n - len(state)])
            state, more = found[n - len(state) : n], found[n:]
            sums = added(sums, more) if sums else [*more]
            del found, more  # the next strip needs their memory
        last = {carry.before: np.array(value) for carry, value in zip(loop.carries, state)}
        parts = parts[::-1] if loop.reverse else parts
        return [self._gathered(v, of_v, arrays) for v, of_v in zip(loop.wanted, zip(*parts))], last, sums

    def _provide(self, arrays: dict, whole: Container[str], time: int, strip: int, pool: dict) -> None:
        """Arrays to write into: those of the pool, or new ones; always new ones for what is given away."""
        for name, place in self.loop.buffers.items():
            if name in self.loop.homes:
                continue
            steps = (time if name in whole else strip) + place.more
            array = pool.get((self.loop.reverse, name))
            there = 0 if array is None else len(array) if place.time else steps
            if name in self.new or there < steps or (there > steps and name in whole):
                array = place.made(steps - place.more)
                if name not in self.new:
                    pool[self.loop.reverse, name] = array
            arrays[name] = array
        for name, home in self.loop.homes.items():
            arrays[name] = home.part(arrays[home.array])

    def _views(self, arrays: dict, whole: Container[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """The parts of the arrays that are for one strip."""
        here = {}
        for name in self.arguments:
            begin, end = (0, stop - start) if self._is_own(name, whole) else (start, stop)
            here[name] = arrays[name][begin : end + self.timed[name]] if name in self.timed else arrays[name]
        return here

    def _gathered(self, v: Value, parts: Sequence[np.ndarray], arrays: dict) -> np.ndarray:
        """A result of all times, of those of the strips."""
        if len(parts) == 1:
            return parts[0]
        place = self.loop.where(v)
        return place.of(arrays[place.array]) if place and place.array in self.new else np.concatenate(parts)


def size(of: Place | Value) -> int:
    """The bytes of one time."""
    return math.prod(of.shape) * np.dtype(of.dtype).itemsize


def added(sums: Sequence, more: Sequence) -> list:
    """Sums, each with one more term: in place, if nothing else looks at it; what is one array for two, stays so."""
    looked_at, found = {id(a.base) for a in sums}, {}
    for a, b in zip(sums, more):
        if id(a) not in found:
            alone = a.ndim and a.base is None and id(a) not in looked_at
            found[id(a)] = np.add(a, b, out=a) if alone else a + b
    return [found[id(a)] for a in sums]
