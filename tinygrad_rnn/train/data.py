"""Where the batches come from. Each kind of data says which batches an epoch has, from the seed of the run alone.

So where a run is, is two numbers: the epoch, and how many of its batches are done. No generator has to be remembered.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..arrays import device_of, is_array, move
from ..errors import described, whole
from ..tensor import bare

EPOCH = 100  # batches, of data that has no end, where nobody says how many


class Source:
    """Batches, epoch by epoch. ``size``: how many an epoch has, None if that is seen only in time.

    ``identity``: the settings that have to be the same where a run is resumed, for the position to mean the same.
    """

    size: int | None = None

    def __init__(self, seed: list[int], size: int | None, identity: dict[str, Any]):
        self.seed, self.size, self.identity = seed, size, identity

    def rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([*self.seed, *numbers])

    def epoch(self, number: int, skip: int) -> Iterator:
        """The batches of an epoch, but for the first ones."""
        batches = self.batches(number, skip)
        return batches if self.size is None else itertools.islice(batches, max(self.size - skip, 0))

    def batches(self, number: int, skip: int) -> Iterator:
        raise NotImplementedError


class Arrays(Source):
    """Parts of arrays, in an order that is drawn anew for each epoch."""

    def __init__(self, seed: list[int], size: int | None, pieces: Pieces, shuffle: bool):
        self.pieces, self.shuffle = pieces, shuffle
        whole_size = len(pieces)
        identity = {"batch_size": pieces.size, "batch_axis": pieces.axes, "shuffle": shuffle, "steps_per_epoch": size}
        super().__init__(seed, whole_size if size is None else min(size, whole_size), identity)

    def batches(self, number: int, skip: int) -> Iterator:
        samples = self.pieces.samples
        order = self.rng(number).permutation(samples) if self.shuffle else np.arange(samples)
        return (self.pieces.of(order, i) for i in range(skip, len(self.pieces)))


class Drawn(Source):
    """Batches of a task, ``task.batch(size, rng)``: each has a generator of its own, so none is drawn to be skipped."""

    def __init__(self, seed: list[int], size: int | None, task: Any, batch_size: int):
        self.task, self.batch_size = task, batch_size
        super().__init__(seed, size or EPOCH, {"batch_size": batch_size, "steps_per_epoch": size or EPOCH})

    def batches(self, number: int, skip: int) -> Iterator:
        return (self.task.batch(self.batch_size, self.rng(number, i)) for i in itertools.count(skip))


class Called(Source):
    """Batches that a function gives, ``batches(rng)``, or that are iterated over: to skip some, they are made again."""

    def __init__(self, seed: list[int], size: int | None, make: Callable):
        self.make = make
        super().__init__(seed, size, {"steps_per_epoch": size})

    def batches(self, number: int, skip: int) -> Iterator:
        return itertools.islice(iter(self.make(self.rng(number))), skip, None)


class Pieces:
    """Arrays that belong together, and how they are cut into batches of so many samples; None: all in one."""

    def __init__(self, name: str, arrays: Any, size: int | None, axis: int | tuple | None):
        self.kind = arrays._make if hasattr(arrays, "_make") else tuple
        self.arrays = [bare(array) for array in arrays]
        first = self.arrays[0]
        self.size, self.samples, self.axes = size, 1, None
        if size is None:
            if axis is not None:
                raise ValueError("batch_axis: there are no batches to cut along it without a batch_size")
            return
        if axis is None and (first.ndim > 2 or first.dtype.kind in "iu"):
            raise ValueError(f"batch_axis: expected to be told which axis of {name}[0], {described(first)}, is cut "
                             "into batches: 1 for sequences, time first; (1, 0) if then there is one target for each "
                             "sequence; 0 where samples come first")  # fmt: skip
        self.axes = self._axes(0 if axis is None else axis)
        samples = [a.shape[i] for a, i in zip(self.arrays, self.axes) if a is not None]
        if len(set(samples)) > 1 or not samples[0]:
            raise ValueError(f"{name}: expected arrays of the same number of samples, at least 1, got {samples}, along "
                             f"the axes {self.axes} of {described([a for a in self.arrays if a is not None])}: "
                             "batch_axis=(1, 0), say, gives each its own")  # fmt: skip
        self.samples = samples[0]

    def _axes(self, axis: Any) -> list[int]:
        given = list(axis) if isinstance(axis, (tuple, list)) else None
        if given is None:  # the same for all, but that an array of one axis has no other
            axis = whole("batch_axis", axis, 0)
            given = [0 if a is None or a.ndim == 1 else axis for a in self.arrays]
        wrong = len(given) != len(self.arrays) or any(
            isinstance(i, bool) or not isinstance(i, (int, np.integer)) or not 0 <= i < a.ndim
            for a, i in zip(self.arrays, given) if a is not None
        )  # fmt: skip
        if wrong:
            raise ValueError(f"batch_axis: expected an axis of each of {described(self.arrays)}, got {axis!r}")
        return [int(i) for i in given]

    def __len__(self) -> int:
        return 1 if self.size is None else -(-self.samples // self.size)

    def of(self, order: np.ndarray, i: int) -> Any:
        """Batch i, where the samples are taken in this order."""
        if self.size is None:
            return self.kind(self.arrays)
        index = order[i * self.size : (i + 1) * self.size]
        return self.kind([
            a if a is None else a[(slice(None),) * axis + (move(index, device_of(a)),)]
            for a, axis in zip(self.arrays, self.axes)
        ])  # fmt: skip

    def in_order(self) -> Iterator[tuple[Any, int]]:
        """All batches, with the number of samples in each."""
        order = np.arange(self.samples)
        return ((self.of(order, i), len(order[i * (self.size or 1) :][: self.size])) for i in range(len(self)))


def is_arrays(data: Any) -> bool:
    """Whether it is a tuple of arrays, (X, Y), and not of batches. (A part of it may be None, as in a task's batch.)"""
    if not isinstance(data, tuple) or not data or data[0] is None:
        return False
    return all(part is None or (is_array(bare(part)) and bare(part).ndim > 0) for part in data)


def source_of(
    data: Any, batch_size: int | None, batch_axis: Any, shuffle: bool, steps_per_epoch: int | None, seed: list[int]
) -> Source:
    """The batches of whatever fit() was given."""
    size = None if steps_per_epoch is None else whole("steps_per_epoch", steps_per_epoch, 1)
    batch_size = None if batch_size is None else whole("batch_size", batch_size, 1)
    if is_arrays(data):
        return Arrays(seed, size, Pieces("data", data, batch_size, batch_axis), shuffle)
    if not shuffle or batch_axis is not None:
        raise ValueError(
            "shuffle, batch_axis: they are for arrays, a tuple (X, Y); other data comes in batches as it is"
        )
    if callable(getattr(data, "batch", None)):
        if batch_size is None:
            raise ValueError("batch_size: expected how many sequences of the task make a batch")
        return Drawn(seed, size, data, batch_size)
    if batch_size is not None:
        raise ValueError(f"batch_size: data, a {type(data).__name__}, comes in batches as it is: leave it out; or "
                         "pass arrays, a tuple (X, Y)")  # fmt: skip
    if callable(data):
        return Called(seed, size, data)
    if is_array(bare(data)) or isinstance(data, (str, bytes, dict)) or not isinstance(data, Iterable):
        raise TypeError("data: expected a tuple of arrays, (X, Y), a task, a list of batches, or a function "
                        f"batches(rng), got {described(data)}")  # fmt: skip
    if isinstance(data, Iterator):
        raise TypeError(f"data: {type(data).__name__}: it can be read only once, and each epoch reads it from the "
                        "beginning: pass the function that makes it, batches(rng)")  # fmt: skip
    if isinstance(data, Sequence):
        size = min(size or len(data), len(data))
    return Called(seed, size, lambda rng: data)


def window_of(batch: Any, begin: int, end: int) -> Any:
    """A batch from step begin to step end: all of its arrays are time first, except for ``lengths``, which are cut."""
    fields = getattr(batch, "_fields", range(len(batch)))

    def part(name: Any, array: Any) -> Any:
        if array is None:
            return None
        return np.clip(bare(array) - begin, 0, end - begin) if name == "lengths" else array[begin:end]

    parts = [part(name, array) for name, array in zip(fields, batch)]
    return batch._make(parts) if hasattr(batch, "_make") else tuple(parts)


def time_of(batch: Any) -> int:
    """The number of steps of a batch that is to be cut into windows."""
    if not isinstance(batch, (tuple, list)) or not batch or batch[0] is None:
        raise TypeError(f"window: expected batches that are tuples of arrays, time first, got {described(batch)}")
    named = dict(zip(getattr(batch, "_fields", range(len(batch))), batch))
    steps = {name: len(array) for name, array in named.items() if array is not None and name != "lengths"}
    time = next(iter(steps.values()))
    if set(steps.values()) != {time} or not time:
        raise ValueError(f"window: expected arrays that are time first, of one length, at least 1, got lengths "
                         f"{steps}: a mask says where sequences end, or a named tuple with lengths")  # fmt: skip
    return time
