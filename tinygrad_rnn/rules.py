"""What rules ask for, and how the tape keeps just that: the names of their arguments say it.

    multiply.vjp(lambda g, b: g * b, lambda g, a: g * a)   # keeps b for the gradient of a, and a for that of b
    tanh.vjp(lambda g, out: g * (1 - out * out))           # keeps the output, not the input

(PyTorch writes its formulas so, in ``derivatives.yaml``.) The names are read once, when the rules are registered; and
from them three functions of a primitive are made, when first used. For multiply these are, with p_ for the
entries of the inputs (None where no gradient is wanted) and k for what is kept:

    keep = lambda p_, out, a, b: (b if p_[0] is not None else None, a if p_[1] is not None else None)
    pull = lambda g, p_, k: (rule_0(g, k[0]) if p_[0] is not None else None, ...the same for 1)
    lift = lambda k, node, p_: (placed(k[0], p_[1]), placed(k[1], p_[0]))

``keep`` picks what the rules need, ``pull`` runs them, and ``lift`` puts what was kept back on the tape, as tensors,
when the walk itself is to be recorded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .errors import counted
from .tensor import Tensor

if TYPE_CHECKING:
    from .recording import Primitive


def needs_of(op: Primitive, x: str, rule: Callable | None) -> list[str]:
    """What the rule of an input asks for, as expressions of the forward's arguments and ``out``."""
    if rule is None:
        return []
    g, *names = inspect.signature(rule).parameters or ("",)
    shape = {"in_shapes": f"[x.shape for x in {x}]"} if op.variadic else {"in_shape": f"{x}.shape"}
    known = {*op.signature.parameters, *shape, *([] if op.several else ["out"])}
    if g != "g" or not known.issuperset(names):
        raise TypeError(f"{op.name}: a rule takes g and any of {sorted(known)}, not {[g, *names]}")
    return [shape.get(name, name) for name in names]


def make_keep(op: Primitive) -> Callable:
    """What is kept when a call is recorded."""
    plain = [p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else None)
             for p in op.signature.parameters.values()]  # fmt: skip
    arguments = str(inspect.Signature(plain))[1:-1]
    parts = [f"{part}{_if_wanted(op, [i for i, needs in enumerate(op.needs) if part in needs])}" for part in op.kept]
    keep = eval(f"lambda p_, out, {arguments}: ({''.join(part + ', ' for part in parts)})")
    defaults = [p for p in op.signature.parameters.values() if p.default is not p.empty]
    keep.__defaults__ = tuple([p.default for p in defaults if p.kind is not p.KEYWORD_ONLY])
    keep.__kwdefaults__ = {p.name: p.default for p in defaults if p.kind is p.KEYWORD_ONLY}
    missing = [i for i, rule in enumerate(op.rules) if rule is None]
    return refusing(op, missing, keep) if missing else keep


def make_pull(op: Primitive) -> Callable:
    """The gradients of the inputs, from that of the output."""
    calls = [f"rule_{i}({', '.join(['g', *[f'k[{op.kept.index(part)}]' for part in needs]])})"
             for i, needs in enumerate(op.needs)]  # fmt: skip
    calls = [f"{call}{_if_wanted(op, [i])}" for i, call in enumerate(calls)]
    result = f"for_each({calls[0]}, p_)" if op.variadic else f"({''.join(f'{call}, ' for call in calls)})"
    names = {f"rule_{i}": rule for i, rule in enumerate(op.rules)} | {"for_each": for_each}
    return eval(f"lambda g, p_, k: {result}", names)


def for_each(gradients: Sequence, inputs: tuple) -> Sequence:
    """What a joint rule returned, if it is a gradient for each input: the walker would not miss those left out."""
    if not isinstance(gradients, (list, tuple)):
        raise TypeError(f"a joint rule has to return a list of gradients, one for each of {len(inputs)} inputs, got "
                        f"{counted(gradients)}")  # fmt: skip
    if len(gradients) != len(inputs):
        raise ValueError(f"a joint rule returned {len(gradients)} gradients for {len(inputs)} inputs")
    return gradients


def make_lift(op: Primitive) -> Callable:
    """What was kept, as tensors: the output at this entry, the inputs at their own."""
    places = {x: "p_" if op.variadic else f"p_[{i}]" for i, x in enumerate(op.inputs)} | {"out": "node"}
    lifted = [f"placed(k[{i}], {places[part]})" if part in places else f"k[{i}]" for i, part in enumerate(op.kept)]
    return eval(f"lambda k, node, p_: ({''.join(part + ', ' for part in lifted)})", {"placed": placed})


def _if_wanted(op: Primitive, rules: Sequence[int]) -> str:
    """One input is never recorded without a gradient; of several, only some may want one."""
    if len(op.inputs) == 1:
        return ""
    return f" if {' or '.join(f'p_[{i}] is not None' for i in rules)} else None"


def placed(value: Any, place: Any) -> Any:
    """A kept value as a tensor, if it has a place on the tape."""
    if isinstance(place, tuple):
        return tuple(map(placed, value, place))
    return value if place is None or value is None else Tensor(value, place)


def refusing(op: Primitive, missing: list[int], keep: Callable) -> Callable:
    """The same keep, which refuses an input that wants a gradient and has no rule."""

    def keep_or_refuse(p: tuple, *arguments: Any, **keywords: Any) -> tuple:
        if wanted := [op.inputs[i] for i in missing if (any(p) if op.variadic else p[i])]:
            raise TypeError(
                f"{op.name}: {wanted[0]} requires a gradient, and there is no rule for it: use x.detach() for a "
                f"constant; or, for an operation of your own, register its rules with {op.name}.vjp(...)"
            )
        return keep(p, *arguments, **keywords)

    return keep_or_refuse
