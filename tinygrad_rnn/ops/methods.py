"""What a tensor can do: its operators, its methods, and the functions of NumPy that it answers to.

They are the operations themselves, put on the class here, so that ``a * b`` costs no call more than ``multiply(a, b)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..modes import is_recording
from ..tape import Leaf
from ..tensor import Tensor, bare

# Operators and methods -----------------------------------------------------------------------------------------------


def _swapped(operation: Callable) -> Callable:
    return lambda b, a: operation(a, b)


def _spread(operation: Callable) -> Callable:
    """For methods that take one tuple, or its items: ``x.reshape((2, 3))``, ``x.reshape(2, 3)``."""

    def method(x: Tensor, *items: Any) -> Any:
        return operation(x, items[0] if len(items) == 1 else items or None)

    method.__doc__ = operation.__doc__
    return method


def _in_place(name: str, operation: Callable) -> Callable:
    """``x += y`` makes a new tensor. For a parameter, where nothing is recorded, that is hardly what was meant."""

    def operate(x: Tensor, y: Any) -> Any:
        if isinstance(x.node, Leaf) and not is_recording():
            raise TypeError(f"x {name} y would make a new tensor, and leave this leaf as it is: write "
                            f"x.data = x.data {name[:-1]} y, or use an optimiser")  # fmt: skip
        return operation(x, y)

    return operate


def _contains(x: Tensor, value: Any) -> bool:
    return bool(np.any(ops.equal(x, value)))


def _iterate(x: Tensor) -> Any:
    if x.ndim == 0:
        raise TypeError("a tensor without dimensions cannot be iterated over")
    return iter(ops.unstack(x))


_OPERATORS = {
    "add": ops.add, "sub": ops.subtract, "mul": ops.multiply, "truediv": ops.divide, "floordiv": ops.floor_divide,
    "mod": ops.remainder, "pow": ops.power, "matmul": ops.matmul,
}  # fmt: skip
_SYMBOLS = dict(zip(_OPERATORS, ("+", "-", "*", "/", "//", "%", "**", "@")))
_METHODS = {
    "__neg__": ops.negative, "__pos__": ops.positive, "__abs__": ops.absolute, "__getitem__": ops.getitem,
    "__eq__": ops.equal, "__ne__": ops.not_equal, "__lt__": ops.less, "__le__": ops.less_equal,
    "__gt__": ops.greater, "__ge__": ops.greater_equal, "__iter__": _iterate,
    "__contains__": _contains, "__round__": lambda x, decimals=0: ops.round(x, decimals),
    "T": property(ops.transpose, doc="The axes in reverse order."),
    "mT": property(ops.matrix_transpose, doc="Each matrix, in the last two axes, transposed."),
    "at": property(ops.at, doc="Places to give other values in a new tensor, ``x.at[index].set(v)``."),
    "reshape": _spread(ops.reshape), "transpose": _spread(ops.transpose), "flatten": ops.ravel,
} | {
    name: getattr(ops, name)
    for name in ("sum", "mean", "prod", "max", "min", "var", "std", "cumsum", "cumprod", "argmax", "argmin", "all",
                 "any", "ravel", "swapaxes", "squeeze", "repeat", "take", "trace", "diagonal", "dot", "clip", "round",
                 "astype", "to")
}  # fmt: skip

for _name, _operation in _OPERATORS.items():
    setattr(Tensor, f"__{_name}__", _operation)
    setattr(Tensor, f"__r{_name}__", _swapped(_operation))
    setattr(Tensor, f"__i{_name}__", _in_place(f"{_SYMBOLS[_name]}=", _operation))
for _name, _operation in _METHODS.items():
    setattr(Tensor, _name, _operation)


# NumPy's protocols: which operation takes the place of which of NumPy's functions ------------------------------------


def _values(function: Callable) -> Callable:
    """NumPy's function on the values of tensors: for what has no gradient."""
    return lambda *inputs, **keywords: function(*map(bare, inputs), **{k: bare(x) for k, x in keywords.items()})


def _constant(function: Callable) -> Callable:
    """The same, as a tensor again."""
    return lambda x, *inputs, **keywords: Tensor(function(x._data, *inputs, **keywords))


def _clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    return ops.clip(x, a_min if min is None else min, a_max if max is None else max)


def _corrected(operation: Callable) -> Callable:
    """NumPy's second name for ddof."""
    return lambda x, *args, correction=0, **keywords: operation(x, *args, **{"ddof": correction, **keywords})


for _name in ops.__all__:
    _theirs = getattr(np, _name, None) or getattr(np.linalg, _name, None)
    if _theirs is not None:
        (Tensor.ufuncs if isinstance(_theirs, np.ufunc) else Tensor.functions)[_theirs] = getattr(ops, _name)

Tensor.ufuncs[np.rint] = ops.round
Tensor.functions |= {np.clip: _clip, np.var: _corrected(ops.var), np.std: _corrected(ops.std)}
Tensor.functions[np.einsum] = lambda *inputs, optimize=True: ops.einsum(*inputs)  # it always does what is cheapest
Tensor.functions |= {f: _constant(f) for f in (np.zeros_like, np.ones_like, np.full_like)}
Tensor.functions |= {
    f: _values(f) for f in (np.shape, np.ndim, np.size, np.allclose, np.isclose, np.array_equal, np.argsort)
}
