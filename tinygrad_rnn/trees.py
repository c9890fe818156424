"""Trees: tuples, lists and dicts, nested, with tensors for leaves. States, parameters and batches come as such.

Named tuples and kinds of dict stay what they are. None is a tree without leaves. All else is a leaf.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any


def map(function: Callable, tree: Any, *others: Any, name: str = "tree") -> Any:
    """The tree, with each leaf replaced by ``function(leaf)``.

    With other trees of its form it is ``function(leaf, *theirs)``. Where tree has a leaf, the others may have anything,
    and the function gets it whole.

    Raises
    ------
    ValueError
        Another tree has another form; says where, beginning with name.

    Examples
    --------
    >>> map(lambda x, y: x + y, {"h": 1, "c": (2, 3)}, {"h": 10, "c": (20, 30)})
    {'h': 11, 'c': (22, 33)}
    """
    parts = _parts(tree)
    if parts is None:
        return function(tree, *others)
    for other in others:
        theirs = _parts(other)
        if theirs is None or isinstance(tree, dict) != isinstance(other, dict) or theirs.keys() != parts.keys():
            raise ValueError(f"{name}: expected {_form(tree)}, got {_form(other)}")
    mapped = [map(function, part, *[o[k] for o in others], name=f"{name}[{k!r}]") for k, part in parts.items()]
    if isinstance(tree, dict):
        new = copy.copy(tree)
        new.update(zip(parts, mapped))
        return new
    return tree if tree is None else tree._make(mapped) if hasattr(tree, "_make") else type(tree)(mapped)


def flatten(tree: Any) -> tuple[list, Callable[[Sequence], Any]]:
    """The leaves of a tree, in order, and a function that makes such a tree of other leaves.

    >>> leaves, rebuild = flatten({"h": 1, "c": (2, [3])})
    >>> leaves
    [1, 2, 3]
    >>> rebuild(["a", "b", "c"])
    {'h': 'a', 'c': ('b', ['c'])}
    """
    leaves: list = []

    def number(leaf: Any) -> int:
        leaves.append(leaf)
        return len(leaves) - 1

    numbers = map(number, tree)
    return leaves, lambda values: map(values.__getitem__, numbers)


def paths(tree: Any, name: str = "") -> list[str]:
    """How to reach each leaf of a tree that is called name, in the order of :func:`flatten`.

    >>> paths({"h": 1, "c": (2, [3])}, "state")
    ["state['h']", "state['c'][0]", "state['c'][1][0]"]
    """
    parts = _parts(tree)
    return [name] if parts is None else [p for k, part in parts.items() for p in paths(part, f"{name}[{k!r}]")]


def _parts(tree: Any) -> dict | None:
    """The parts of a container by key; None for a leaf."""
    if isinstance(tree, dict):
        return tree
    return dict(enumerate(tree)) if isinstance(tree, (tuple, list)) else {} if tree is None else None


def _form(tree: Any) -> str:
    parts = _parts(tree)
    if parts is None or tree is None:
        return "None" if tree is None else f"one {type(tree).__name__}"
    return f"a {type(tree).__name__} " + (f"with keys {list(parts)}" if isinstance(tree, dict) else f"of {len(parts)}")
