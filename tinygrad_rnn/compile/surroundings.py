"""What a step is made of beside its arguments: the attributes of a cell, what a function has closed over.

A program is traced once and used again for whatever is like that: with other values of its tensors, which are read
anew each time, but with the same numbers, names and functions, of which the trace has taken the value.

A trace runs a copy of the step, in which something else stands for each array; so it sees what is computed from it. A
class and a module are not copied. What NumPy computes from their arrays is known to the trace as numbers only: so those
have to be the same as well.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import keyword
import re
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..arrays import device_of, is_array
from ..errors import described
from ..recording import Primitive
from ..tensor import Tensor, bare
from .traced import Untraceable

PLAIN = (int, float, complex, bool, str, bytes, type(None), np.generic, np.dtype, slice, range, type(...))

UNUSED = ("__init__", "__post_init__", "__repr__", "__str__")  # of a class: by no step


class StandIn:
    """The base of what stands for a part of the surroundings while a step is traced."""


class Surroundings:
    """The tensors, arrays and generators that a step may use, each once, by name; and a key for everything else.

    >>> from tinygrad_rnn import nn
    >>> around = Surroundings(nn.GRUCell(3, 4, rng=0))
    >>> around.names
    ['weight_ih', 'weight_hh', 'bias_ih', 'bias_hh']
    >>> around.key == Surroundings(nn.GRUCell(3, 4, rng=1)).key, around.key == Surroundings(nn.GRUCell(3, 5)).key
    (True, False)
    """

    def __init__(self, step: Any):
        self.parts: list[Any] = []
        self.paths: list[str] = []
        self.seen: dict[tuple[int, bool], int] = {}  # by id, and by whether it belongs to a class or a module
        self.alive: list[Any] = []  # so that no other object gets the id of one that was seen
        self.shared = False  # whether what is looked at belongs to a class or a module
        self.numbers: dict[int, np.ndarray] = {}  # arrays that do
        self.key = self._key(step, ""), *map(digest, self.numbers.values())
        self.names = shortest(self.paths)

    def generators(self) -> list[np.random.Generator]:
        return [part for part in self.parts if isinstance(part, np.random.Generator)]

    def _key(self, x: Any, name: str) -> Any:
        """What x must be like, for a program to be right for it; its tensors, arrays and generators are added."""
        if isinstance(x, PLAIN):
            return type(x), repr(x)
        if self.shared and isinstance(x, np.ndarray):
            self.numbers[id(x)] = x
        seen = id(x), self.shared
        if seen in self.seen:
            return self.seen[seen]
        self.seen[seen] = len(self.seen)
        self.alive.append(x)
        if isinstance(x, Tensor) or is_array(x):
            self._add(x, name)
            return type(x), x.shape, x.dtype, device_of(bare(x)), getattr(x, "requires_grad", False)
        if isinstance(x, (np.random.Generator, StandIn)):
            return self._add(x, name)
        if isinstance(x, (tuple, list)):
            return type(x), *[self._key(v, joined(name, i)) for i, v in enumerate(x)]
        if isinstance(x, dict):
            return type(x), *[(repr(k), self._key(v, joined(name, k))) for k, v in x.items()]
        if isinstance(op := getattr(x, "op", None), Primitive):
            return op, self._key(op.forward, name), *op.rules
        if isinstance(x, types.FunctionType):
            return x if is_ours(x) else self._of_function(x)
        if isinstance(x, types.MethodType):
            return self._of_function(x.__func__), self._key(x.__self__, name)
        if isinstance(x, functools.partial):
            return tuple([self._key(part, name) for part in (x.func, x.args, x.keywords)])
        if isinstance(x, type):
            return x, *self._of_class(x)
        if isinstance(x, (types.ModuleType, types.BuiltinFunctionType, np.ufunc, staticmethod, classmethod)):
            return getattr(x, "__func__", x)  # itself, so that nothing else gets its id while there is the program
        if hasattr(x, "__dict__"):
            own = [(k, self._key(v, joined(name, k))) for k, v in vars(x).items()]
            return type(x), *own, *self._of_class(type(x))
        raise Untraceable(f"{name or 'the step'} is {described(x)}, and nobody can tell whether that changes")

    def _add(self, part: Any, name: str) -> int:
        if (place := next((i for i, one in enumerate(self.parts) if one is part), None)) is None:
            place = len(self.parts)
            self.parts.append(part)
            self.paths.append(name)
        return place

    def _of_function(self, f: types.FunctionType) -> tuple:
        """The code of a function, and what that refers to."""
        values = []
        for name, value in referred(f).items():
            with self._sharing("." in name):  # an attribute of a module
                values.append(self._key(value, name))
        return f.__code__, self._key([f.__defaults__, f.__kwdefaults__], ""), *values

    def _of_class(self, kind: type) -> list:
        """What a class of the user's has for all its instances."""
        found = []
        for name, value in [item for k in kind.__mro__ if not is_ours(k) for item in vars(k).items()]:
            value = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if name in UNUSED or (name.startswith("__") and not isinstance(value, types.FunctionType)):
                continue  # what Python notes down about a class, some of it later, as when an instance is copied
            if isinstance(value, (types.FunctionType, tuple, list, dict, Tensor, *PLAIN)) or is_array(value):
                with self._sharing(True):
                    found.append((name, self._key(value, name)))
        return found

    @contextmanager
    def _sharing(self, shared: bool) -> Iterator[None]:
        """What is looked at in this block belongs to a class or a module."""
        before, self.shared = self.shared, self.shared or shared
        try:
            yield
        finally:
            self.shared = before

    # A copy of a step

    def copied(self, step: Any, stand_ins: list) -> Any:
        """A copy of the step with something else in the places of the tensors, arrays and generators.

        So what the trace runs is not what the user has: and of a number that is read, it can be told.
        """
        memo = {id(part): stand_in for part, stand_in in zip(self.parts, stand_ins)}
        memo |= {id(x): x for x in self.alive if isinstance(x, (types.ModuleType, type))}
        try:
            for f in [x for x in self.alive if isinstance(x, types.FunctionType)]:
                copied(f, memo)
            return copied(step, memo)
        except Exception as error:
            raise Untraceable(f"it cannot be copied: {error}") from error


def copied_function(f: types.FunctionType, memo: dict) -> types.FunctionType:
    """A copy of a function, and of what it refers to."""
    if id(f) not in memo:
        memo[id(f)] = new = types.FunctionType(
            f.__code__,
            dict(f.__globals__),
            f.__name__,
            f.__defaults__,
            tuple([types.CellType() for _ in f.__closure__ or ()]),
        )
        new.__kwdefaults__ = copied(f.__kwdefaults__, memo)
        new.__defaults__ = copied(f.__defaults__, memo)
        new.__dict__.update(f.__dict__)
        for name, cell in zip(f.__code__.co_freevars, new.__closure__ or ()):
            cell.cell_contents = copied(referred(f)[name], memo) if name in referred(f) else None
        new.__globals__.update({name: copied(referred(f)[name], memo) for name in referred(f) if name in f.__globals__})
    return memo[id(f)]


def copied(x: Any, memo: dict) -> Any:
    """A copy, with what the memo says in the places of what it knows."""
    if isinstance(x, types.FunctionType) and not is_ours(x) and not hasattr(x, "op"):
        return copied_function(x, memo)
    if isinstance(x, types.MethodType):
        return types.MethodType(copied(x.__func__, memo), copied(x.__self__, memo))
    return copy.deepcopy(x, memo)


def referred(f: types.FunctionType) -> dict[str, Any]:
    """What the code of a function refers to: variables that it closes over, and global ones."""
    around = {n: c for n, c in zip(f.__code__.co_freevars, f.__closure__ or ()) if n != "__class__"}
    found = {name: cell.cell_contents for name, cell in around.items()}
    names = names_in(f.__code__)
    found |= {name: f.__globals__[name] for name in names if name in f.__globals__}
    for module in [m for m in found.values() if isinstance(m, types.ModuleType) and not is_ours(m)]:
        found |= {f"{module.__name__}.{name}": vars(module)[name] for name in names if name in vars(module)}
    return found


def digest(array: np.ndarray) -> bytes:
    """What tells the numbers of an array from others."""
    return hashlib.blake2b(np.ascontiguousarray(array)).digest()


def joined(name: str, key: Any) -> str:
    """The path to what is within something."""
    return f"{name}_{key}" if isinstance(key, int) else f"{name}.{str(key).lstrip('_')}"


def shortest(paths: list[str]) -> list[str]:
    """Names for what is found by these paths: as many of a path's last parts as it takes to tell it from the others.

    >>> shortest([".cell.forget.weight", ".cell.candidate.weight", ".cell.candidate.bias", ".in", ".0"])
    ['forget_weight', 'candidate_weight', 'bias', 'in_', '_0']
    """
    ends = [[".".join(path.split(".")[-n:]) for n in range(1, path.count(".") + 2)] for path in paths]
    counts = Counter(end for each in ends for end in each)
    names = [next((end for end in each if counts[end] == 1), each[-1]) for each in ends]
    names = [re.sub(r"\W|^(?=\d)", "_", name.strip(".")) or "k" for name in names]  # a key need be no identifier
    return [f"{name}_" if keyword.iskeyword(name) else name for name in names]


def is_ours(x: Any) -> bool:
    """Whether a function or a class is this package's, or Python's or NumPy's, and closes over nothing."""
    home = (getattr(x, "__module__", None) or getattr(x, "__name__", "")).split(".")[0]
    return home in ("tinygrad_rnn", "numpy", "builtins") and not getattr(x, "__closure__", None)


@functools.cache
def names_in(code: types.CodeType) -> tuple[str, ...]:
    """The names that code refers to, and the functions within it, in order."""
    inner = [names_in(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return tuple(dict.fromkeys([*code.co_names, *[name for names in inner for name in names]]))
