"""What a rule asks for, and how the tape keeps just that: the names of its arguments say it.

    multiply.vjp(lambda g, b: g * b, lambda g, a: g * a)   # keeps b for the gradient of a, and a for that of b
    tanh.vjp(lambda g, out: g * (1 - out * out))           # keeps the output, not the input

(PyTorch writes its formulas so, in ``derivatives.yaml``.) The names are read once, when the rule is registered.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .tensor import Tensor

if TYPE_CHECKING:
    from .tape import Primitive


class Rule:
    """A vjp rule of one input of a primitive: the function, and two small ones made for it when first used, from source.

    ``keep(out, *arguments)`` picks what the rule needs; for multiply's first rule it is ``lambda out, a, b: (b,)``.
    ``lift(kept, node, parents)`` puts that back on the tape, where it is on it: ``(placed(kept[0], parents[1]),)``.
    """

    def __init__(self, op: Primitive, x: str, function: Callable | None):
        self.op, self.x, self.function = op, x, function
        self.needs = self._names() if function else []

    def _names(self) -> list[str]:
        """The names that a rule asks for. A misspelt one fails here, when the module is imported."""
        op, names = self.op, [*inspect.signature(self.function).parameters]
        known = {*op.signature.parameters, "in_shapes" if op.variadic else "in_shape", *([] if op.several else ["out"])}
        if names[:1] != ["g"] or not known.issuperset(names[1:]):
            raise TypeError(f"{op.name}: a rule takes g and any of {sorted(known)}, not {names}")
        return names[1:]

    @functools.cached_property
    def keep(self) -> Callable:
        op, x = self.op, self.x
        if self.function is None:
            return _refuse(op, x)
        plain = [p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else None)
                 for p in op.signature.parameters.values()]  # fmt: skip
        arguments = str(inspect.Signature(plain))[1:-1]
        spelt = {"in_shape": f"{x}.shape", "in_shapes": f"[x.shape for x in {x}]"}
        keep = eval(f"lambda out, {arguments}: ({''.join(spelt.get(need, need) + ', ' for need in self.needs)})")
        keep.__defaults__ = getattr(op.forward, "__defaults__", None)
        keep.__kwdefaults__ = getattr(op.forward, "__kwdefaults__", None)
        return keep

    @functools.cached_property
    def lift(self) -> Callable:
        op = self.op
        places = {x: "parents" if op.variadic else f"parents[{i}]" for i, x in enumerate(op.inputs)} | {"out": "node"}
        lifted = [f"placed(kept[{i}], {places[x]})" if x in places else f"kept[{i}]" for i, x in enumerate(self.needs)]
        return eval(f"lambda kept, node, parents: ({''.join(x + ', ' for x in lifted)})", {"placed": placed})


def placed(value: Any, place: Any) -> Any:
    """A kept value as a tensor, if it has a place on the tape."""
    if isinstance(place, tuple):
        return tuple(map(placed, value, place))
    return value if place is None else Tensor(value, place)


def _refuse(op: Primitive, x: str) -> Callable:
    """What is called instead, when an input without a rule turns out to want a gradient."""

    def keep(*arguments: Any, **keywords: Any) -> Any:
        raise TypeError(
            f"{op.name}: {x} requires a gradient, and there is no rule for it: use x.detach() for a constant; or, for "
            f"an operation of your own, register its rules with {op.name}.vjp(...)"
        )

    return keep
