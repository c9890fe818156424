"""A loop: when each value is computed, and where it lives. The sources (NumPy's, Numba's) are written from it.

A loop has parts. What is always the same comes first; then, for all steps at once, what waits for nothing; then the
loop itself: what lies on the way from a carried value to its next; then, for all steps at once again, what else depends
on that; and last the totals over time.
"""

from __future__ import annotations

import itertools
import keyword
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .graph import Value, called, reach
from .passes import Direction

ALWAYS, BEFORE, WITHIN, AFTER, TOTAL = range(5)
RESERVED = {"t", "T", "np", "n", "j", "size", "range", "reversed", "sigmoid", "quotient", "put", "real", "math", "out"}


@dataclass(frozen=True)
class Place:
    """Where a value lives: an array, of this shape at each time; the index of time (None: it has no axis of time); and
    a part of the last axis.

    The array of a carried value has a time more than there are steps: it is at ``t`` before the step, and at ``t + 1``
    after it (where time runs backwards, the other way round).
    """

    array: str
    shape: tuple
    dtype: Any
    time: str | None = "t"
    more: bool = False
    cut: tuple[int, int] | None = None

    def at(self) -> str:
        """The value at one time."""
        return self.array + (f"[{self.time}]" if self.time else "") + self._part()

    def all(self) -> str:
        """The values of all times."""
        return self.array + ({"t": "[:-1]", "t + 1": "[1:]"}[self.time] if self.more else "") + self._part()

    def of(self, array: np.ndarray) -> np.ndarray:
        """The values of all times, in the array."""
        return self.part(array[{"t": slice(-1), "t + 1": slice(1, None)}[self.time]] if self.more else array)

    def part(self, array: np.ndarray) -> np.ndarray:
        return array[..., slice(*self.cut)] if self.cut else array

    def sliced(self, start: int, stop: int) -> Place:
        before = self.cut[0] if self.cut else 0
        return replace(self, cut=(before + start, before + stop))

    def made(self, time: int) -> np.ndarray:
        """A new array for so many steps."""
        return np.empty((*([time + self.more] if self.time else []), *self.shape), self.dtype)

    def _part(self) -> str:
        return f"[..., {self.cut[0]}:{self.cut[1]}]" if self.cut else ""


def base(v: Value) -> Value:
    """The value that v is a view of."""
    while v.kind == "view":
        v = v.args[0]
    return v


def given(v: Value, name: str, timed: bool = True) -> Place:
    """The place of a value that is an argument of a program."""
    return Place(name, v.shape, v.dtype, "t" if timed else None)


@dataclass
class Room:
    """An array of all times, and who lives in it: values, each in a part of the last axis."""

    place: Place
    tenants: list[tuple[tuple[int, int], Value]]

    def of(self, values: Container[Value]) -> Room:
        """With these tenants alone."""
        return Room(self.place, [(cut, v) for cut, v in self.tenants if v in values])


@dataclass
class Carry:
    """A value that is carried over: before a step, after it, and the array where both are."""

    before: Value
    after: Value
    array: str
    kept: bool  # whether all of its times are


class Loop:
    """One direction of a program.

    Parameters
    ----------
    direction : Direction
        Which says when values are known.
    places : dict of Value to Place
        Where the values are that are given.
    carries : sequence of pairs of Value
        What is carried over: before and after a step.
    last : sequence of Value
        Of the values before, those whose last value is wanted. Others are left out, if nothing depends on them.
    results : sequence of Value
        What is wanted of each time, and given away.
    saved : sequence of Value
        What is kept of each time, for the other direction.
    totals : sequence of Value
        What is wanted of all time.
    rooms : dict of str to Room
        Arrays that are given, and may be overwritten where nobody reads them any more.
    reverse : bool
        Whether time runs backwards.
    """

    def __init__(
        self, direction: Direction, places: dict[Value, Place], carries: Sequence[tuple[Value, Value]],
        last: Sequence[Value], results: Sequence[Value], saved: Sequence[Value], totals: Sequence[Value],
        rooms: dict[str, Room], reverse: bool,
    ):  # fmt: skip
        self.direction, self.places, self.reverse = direction, dict(places), reverse
        self.wanted, self.results, self.totals = list(results), [*results, *saved], list(totals)
        self.given = set(places)
        self.given_away = {base(v) for v in results}
        self.buffers: dict[str, Place] = {}
        self.rooms, self.homes = rooms, dict[str, Place]()  # and the place of an array that is a part of another one
        self.taken = {place.array for place in places.values()} | RESERVED | {*rooms}
        pairs = self._needed(carries, last)
        self.after = {after for _, after in pairs}
        self.values = self._in_order(pairs)
        self.users: dict[Value, list[Value]] = {v: [] for v in self.values}
        for v in self.values:
            for a in self.sources(v):
                self.users[a].append(v)
        self.parts: dict[Value, int] = {}
        for v in self.values:
            self.parts[v] = self._part(v)
        self.arrange()
        self.carries = [self._placed(*pair) for pair in pairs]
        self.carried = {carry.before for carry in self.carries}

    def arrange(self) -> None:
        """Settle in which order the values within the loop are computed: here, in that of ``values``."""
        self.position = {v: i for i, v in enumerate(self.values)}

    def has_read(self, v: Value, before: Value, after: Value) -> bool:
        """Whether v has read a carried value when the next one is written into its place."""
        return self.position[v] < self.position[after] or (v is after and v.kind == "elementwise")

    def sources(self, v: Value) -> list[Value]:
        return [] if v in self.given else v.inputs

    def _needed(self, carries: Sequence[tuple[Value, Value]], last: Sequence[Value]) -> list[tuple[Value, Value]]:
        """The carried values that something depends on."""
        found = [pair for pair in carries if pair[0] in last]
        for _ in range(len(carries) + 1):
            roots = [*self.results, *self.totals, *[after for _, after in found]]
            values = set(reach(roots, self.given))
            found = [pair for pair in carries if pair[0] in values or pair[0] in last]
        return found

    def _in_order(self, carries: list[tuple[Value, Value]]) -> list[Value]:
        """The values, each after those that it is made of, and after those carried to it from outside of the loop."""
        carried = {before: after for before, after in carries if self.direction.rank(before) != 2}
        order: dict[Value, None] = {}
        roots = [*self.results, *self.totals, *[v for pair in carries for v in pair]]
        todo = sorted(set(roots), key=lambda v: -v.order)
        while todo:
            v = todo[-1]
            sources = [*self.sources(v), *([carried[v]] if v in carried else [])]
            if missing := [a for a in sources if a not in order]:
                todo += sorted(missing, key=lambda v: -v.order)
            else:
                order.setdefault(todo.pop())
        return [*order]

    def _part(self, v: Value) -> int:
        if v.kind == "total" or any(self.parts[a] == TOTAL for a in self.sources(v)):
            return TOTAL
        part = (ALWAYS, BEFORE, WITHIN, AFTER)[self.direction.rank(v)]
        return BEFORE if part == ALWAYS and v in self.after else part

    def is_wanted_outside(self, v: Value) -> bool:
        """Whether the loop has to keep the value for later: of all times."""
        later = any(self.parts[u] != WITHIN or (u.kind == "view" and self.is_wanted_outside(u)) for u in self.users[v])
        return later or v in self.results or v in self.totals

    def ends(self) -> list[str]:
        """The last of what is carried over."""
        return [carry.array + (("[0]" if self.reverse else "[-1]") if carry.kept else "") for carry in self.carries]

    # Places

    def fresh(self, name: str) -> str:
        """A name that nothing else has."""
        names = itertools.chain([name], (f"{name}_{n}" for n in itertools.count(2)))
        found = next(n for n in names if n not in self.taken and not keyword.iskeyword(n))
        self.taken.add(found)
        return found

    def buffer(self, v: Value, timed: bool, name: str | None = None) -> Place:
        """A new array for a value."""
        name = self.fresh(name or called(v))
        self.places[v] = self.buffers[name] = given(v, name, timed)
        if timed and v.ndim and v not in self.given_away:
            cuts = [u for u in self.users[v] if u.op == "slice" and u.options["axis"] == -1]
            tenants = [
                ((u.options["start"], u.options["stop"]), u) for u in cuts
            ]  # a part may be free before the whole
            whole = len(cuts) < len(self.users[v]) or v in self.results or not cuts
            self.rooms[name] = Room(self.places[v], [((0, v.shape[-1]), v)] if whole else tenants)
        return self.places[v]

    def moved_in(self, v: Value) -> Place | None:
        """A part of an array that is there already, and that nobody reads any more when v is written."""
        if v in self.given_away or not (v.kind == "elementwise" or (v.op == "concat" and v.options["axis"] == -1)):
            return None
        if v.op == "negative" and v.shape[-1:] == (1,):  # NumPy 2.4 is wrong in place, for one column of 4, or of 8
            return None
        for room in self.rooms.values():
            shape, width = room.place.shape, v.shape[-1:]
            if v.dtype != room.place.dtype or shape[:-1] != v.shape[:-1] or not width or not width[0]:
                continue
            for start in range(0, shape[-1] - width[0] + 1, width[0]):
                stop = start + width[0]
                tenants = [(cut, u) for cut, u in room.tenants if cut[0] < stop and start < cut[1]]
                if all(self.is_done_with(u, v) for _, u in tenants):
                    leaving = [t for t in tenants if start <= t[0][0] and t[0][1] <= stop]
                    room.tenants = [*[t for t in room.tenants if t not in leaving], ((start, stop), v)]
                    return room.place if (start, stop) == (0, shape[-1]) else room.place.sliced(start, stop)
        return None

    def is_done_with(self, u: Value, v: Value) -> bool:
        """Whether nobody reads u any more when v is written (at the same time)."""
        if u in self.results or u in self.totals or base(u) in self.after:
            return False
        for r in self.readers(u):
            together = self.parts[r] == self.parts[v]
            if not (self.has_read(r, u, v) if together else self.parts[r] < self.parts[v]):
                return False
        return True

    def named(self, v: Value, timed: bool = False) -> Place:
        """A name for a value that is not written into an array made before."""
        self.places[v] = given(v, self.fresh(called(v)), timed)
        return self.places[v]

    def is_timed(self, v: Value) -> bool:
        """Whether it has an axis of time: it is different at each, and no total."""
        return self.parts.get(v, TOTAL if v.kind == "total" else ALWAYS) in (BEFORE, WITHIN, AFTER)

    def _placed(self, before: Value, after: Value) -> Carry:
        """The array for a value that is carried over. One without an axis of time will do, if it is written last."""
        kept = (
            self.parts[before] != WITHIN
            or self.is_wanted_outside(before)
            or self.is_wanted_outside(after)
            or not all(self.has_read(u, before, after) for u in self.readers(before))
        )
        name = self.fresh(called(before))
        array = self.buffers[name] = Place(name, before.shape, before.dtype, "t" if kept else None, more=kept)
        times = ("t + 1", "t") if self.reverse else ("t", "t + 1")
        self.places[before], self.places[after] = [replace(array, time=time) if kept else array for time in times]
        return Carry(before, after, name, kept)

    def readers(self, v: Value) -> list[Value]:
        """What reads a value, itself or a view of it."""
        return [r for u in self.users.get(v, ()) for r in (self.readers(u) if u.kind == "view" else [u])]

    def where(self, v: Value) -> Place | None:
        """Where a value is, if that is an array, or a part of the last axis of one."""
        if v in self.places:
            return self.places[v]
        if v.op == "slice" and v.options["axis"] == -1 and (place := self.where(v.args[0])) is not None:
            return place.sliced(v.options["start"], v.options["stop"])
        return None
