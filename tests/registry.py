"""The table of all operations: how each is called, what it must equal, and what it must refuse.

To prove a new operation, give it one entry here, with :func:`op`: how to draw its arguments (every keyword of its
signature; see ``strategies.Source``), a few exact points, and what it refuses. All else is generated from that, in
``test_ops_value.py``, ``test_ops_grad.py`` and ``test_ops_special.py``; ``test_registry.py`` says what an entry lacks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np
import references
from strategies import Source

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.ops import indexing, linear


class Point(NamedTuple):
    """Exact inputs, and what must come out: the value, and the gradients for a cotangent g (ones, if None)."""

    inputs: tuple
    keywords: dict
    value: Any
    grads: tuple
    g: Any


class Number(NamedTuple):
    """An input that stays a Python number; others become arrays."""

    value: float


class Refused(NamedTuple):
    """A call that must raise."""

    error: type[Exception]
    match: str
    inputs: tuple
    keywords: dict


@dataclass(frozen=True)
class OpSpec:
    name: str
    fn: Callable  # ours, of arrays or tensors, then keywords
    ref: Callable  # the same in plain NumPy, complex-safe: what the oracle differentiates
    numpy: Callable | None  # NumPy's own function, if it has one: right at NaN and inf, too
    draw: Callable[[Source], tuple[tuple, dict]]
    special: tuple[Point, ...]
    errors: tuple[Refused, ...]
    diff: tuple[int, ...] | None = None  # positions that can have a gradient; None: all of floating-point numbers
    view: bool | None = False  # whether the result shares memory with the input; True: whenever NumPy's; None: it may
    rounding: float = 16  # in float32, how many eps the result and the gradient may be off
    half: bool = True  # whether it takes float16
    ties: bool = True  # whether it is defined where elements repeat
    device: bool = True  # whether it is the same on every device


SPECS: dict[str, OpSpec] = {}
NOT_PUBLIC = {"put", "matmul_nt", "matmul_tn"}  # the adjoint of getitem, and what the rules of matmul are made of


def op(name: str, draw: Callable, special: Any, errors: Any, **options: Any) -> None:
    """Enter an operation. By default fn, ref and numpy are found by its name."""
    numpy = options.pop("numpy", getattr(np, name, None) or getattr(np.linalg, name, None))
    ref = options.pop("ref", None) or getattr(references, name, None) or numpy
    fn = options.pop("fn", None) or getattr(ops, name)
    points, refused = [tuple(x if isinstance(x, list) else [x]) for x in (special, errors)]

    def draw_arrays(s: Source) -> tuple:
        arrays, keywords = draw(s)
        return tuple(np.asarray(x) if isinstance(x, np.generic) else x for x in arrays), keywords

    SPECS[name] = OpSpec(name, fn, ref, numpy, draw_arrays, points, refused, **options)


def point(*inputs: Any, value: Any, grads: Sequence = (), g: Any = None, **keywords: Any) -> Point:
    return Point(inputs, keywords, value, tuple(grads), g)


def refused(error: type[Exception], match: str, *inputs: Any, **keywords: Any) -> Refused:
    return Refused(error, match, inputs, keywords)


# Element by element ---------------------------------------------------------------------------------------------------


def unary(low: float = -3, high: float = 3, away_from_0: bool = False) -> Callable:
    def draw(s: Source) -> tuple:
        return ((s.apart if away_from_0 else s.array)(s.shape(), low, high),), {}

    return draw


def binary(low: float = -3, high: float = 3, apart: str = "") -> Callable:
    """Two arrays that broadcast; now and then one of them is a number. Those named in ``apart`` are away from 0."""

    def draw(s: Source) -> tuple:
        shapes = dict(zip("ab", s.shapes(2)))
        pair = [s.apart(n, max(low, 0.3), high) if x in apart else s.array(n, low, high) for x, n in shapes.items()]
        if s.integer(0, 7) == 7:
            i = s.integer(0, 1)
            pair[i] = float(s.apart((), 0.5, 2)) if low < 0 else float(s.array((), low, high))
        return tuple(pair), {}

    return draw


STRINGS = np.array(["a"])
X, M = [1.0, 2.0, 3.0], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def no_strings(name: str) -> Refused:
    return refused((TypeError, ValueError), rf"{name}\(x: <U1 \(1,\)\): ", STRINGS)


def no_broadcast(name: str, a: str = "a", b: str = "b") -> Refused:
    return refused(ValueError, rf"{name}\({a}: float64 \(2, 3\), {b}: float64 \(4,\)\): .*broadcast", M, [1.0] * 4)


def elementwise(name: str, draw: Callable, *special: Point, **options: Any) -> None:
    op(name, draw, list(special), options.pop("errors", no_strings(name)), **options)


def broadcasting(name: str, draw: Callable, *special: Point, **options: Any) -> None:
    op(name, draw, list(special), options.pop("errors", no_broadcast(name)), **options)


broadcasting("add", binary(), point(inf, -inf, value=nan, grads=(1, 1)))
broadcasting("subtract", binary(), point(inf, inf, value=nan, grads=(1, -1)))
broadcasting("multiply", binary(), point(0, inf, value=nan, grads=(inf, 0)))
broadcasting(
    "divide",
    binary(apart="b"),
    point([1, -1, 0], 0, value=[inf, -inf, nan], grads=([inf, inf, inf], nan)),
    point([1, 0], [0, 0], value=[inf, nan], grads=([0, 0], [0, 0]), g=[0, 0]),
)
broadcasting(
    "quotient",
    binary(apart="ab"),
    point([1, 0, 0], [0, 0, 2], value=[inf, 0, 0], grads=([inf, inf, 0.5], None)),
    ref=np.divide,
)
elementwise("negative", unary(), point([0, -inf], value=[-0.0, inf], grads=([-1, -1],)))
elementwise("positive", unary(), point([0, nan], value=[0, nan], grads=([1, 1],)))
elementwise("square", unary(), point([0, -2, -inf], value=[0, 4, inf], grads=([0, -4, -inf],)))


def draw_multiples(s: Source) -> tuple:
    """a lies between the multiples of b."""
    unit = float(s.array((), 0.5, 1))
    shape_a, shape_b = s.shapes(2)
    a = (s.rng.integers(-6, 6, shape_a) + s.array(shape_a, 0.1, 0.9)) * unit
    return (a, s.rng.choice([-1.0, 1.0], shape_b) * s.rng.choice([1.0, 2.0, 3.0], shape_b) * unit), {}


broadcasting("floor_divide", draw_multiples, point([5, -5, 5], [3, 3, -3], value=[1, -2, -2], grads=([0] * 3, [0] * 3)))
broadcasting("remainder", draw_multiples, point([5, -5, 5], [3, 3, -3], value=[2, 1, -1], grads=([1] * 3, [-1, 2, 2])))


def draw_power(s: Source) -> tuple:
    kind = s.choose("arrays", "whole", "number", "number to the array")
    a, b = s.shapes(2)
    if kind == "whole":  # of a base of any sign
        return (s.apart(a), s.choose(2, 3, -1, 1, 0, -2, 2.0)), {}
    if kind == "number":
        return (s.array(a, 0.1, 3), s.choose(0.5, -0.5, 1.5, 2.5, 1 / 3)), {}
    return (float(s.array((), 0.1, 3)) if kind == "number to the array" else s.array(a, 0.1, 3), s.array(b)), {}


broadcasting(
    "power",
    draw_power,
    point(
        [0, 0, 0, 0, -2, -2],
        [0, 1, 2, 0.5, 2, 3],
        value=[1, 0, 0, 0, 4, -8],
        grads=([0, 1, 0, inf, -4, 12], [0, 0, 0, 0, nan, nan]),
    ),
    *[
        point(a, Number(b), value=value, grads=(slope,))
        for a, b, value, slope in [
            (0.0, 0, 1, 0),
            (0.0, 1, 0, 1),
            (0.0, 2, 0, 0),
            (0.0, 0.5, 0, inf),
            (-2.0, 2, 4, -4),
            (-2.0, 3, -8, 12),
            (-2.0, -1, -0.5, -0.25),
            (0.0, -1, inf, -inf),
        ]
    ],
    point([0, 0], [0.5, -1], value=[0, inf], grads=([0, 0], None), g=[0, 0]),
    point(Number(2), [0, 3], value=[1, 8], grads=([math.log(2), 8 * math.log(2)],)),
    point(Number(0), [0, 3], value=[1, 0], grads=([0, 0],)),
)
elementwise(
    "sqrt",
    unary(0.1),
    point([0, 4], value=[0, 2], grads=([inf, 0.25],)),
    point([0, 4], value=[0, 2], grads=([0, 0],), g=[0, 0]),
    point(-1, value=nan),
)
elementwise(
    "cbrt",
    unary(0.1, away_from_0=True),
    point([0, -8], value=[0, -2], grads=([inf, 1 / 12],)),
    point(0, value=0, grads=(0,), g=0),
)
elementwise(
    "reciprocal",
    unary(0.2, away_from_0=True),
    point([0, -2], value=[inf, -0.5], grads=([-inf, -0.25],)),
    point(0, value=inf, grads=(0,), g=0),
)
broadcasting(
    "hypot",
    binary(0.1, apart="ab"),
    point([0, 3], [0, 4], value=[0, 5], grads=([0, 0.6], [0, 0.8])),
    point(1e200, 1e200, value=math.sqrt(2) * 1e200, grads=(math.sqrt(0.5), math.sqrt(0.5))),
)

elementwise("exp", unary(), point([-inf, 0, 1000], value=[0, 1, inf], grads=([0, 1, inf],)))
elementwise("exp2", unary(), point([-inf, 0, 3], value=[0, 1, 8], grads=([0, math.log(2), 8 * math.log(2)],)))
elementwise("expm1", unary(), point([-inf, 0, 1e-20], value=[-1, 0, 1e-20], grads=([0, 1, 1],)))
for name, base in {"log": 1.0, "log2": math.log(2), "log10": math.log(10)}.items():
    elementwise(
        name,
        unary(0.1),
        point([0, 1, inf], value=[-inf, 0, inf], grads=([inf, 1 / base, 0],)),
        point([0, 1], value=[-inf, 0], grads=([0, 0],), g=[0, 0]),
        point(-1, value=nan),
    )
elementwise(
    "log1p",
    unary(-0.9),
    point([-1, 0, 1e-20], value=[-inf, 0, 1e-20], grads=([inf, 1, 1],)),
    point(-1, value=-inf, grads=(0,), g=0),
)
broadcasting(
    "logaddexp",
    binary(),
    point([-inf, 1000, -inf], [-inf, 1000, 0], value=[-inf, 1000 + math.log(2), 0], grads=([0, 0.5, 0], [0, 0.5, 1])),
)

elementwise("sin", unary(), point([0, -0.0], value=[0, -0.0], grads=([1, 1],)))
elementwise("cos", unary(), point(0, value=1, grads=(0,)))
elementwise("tan", unary(-1.4, 1.4), point(0, value=0, grads=(1,)))
for name in ("arcsin", "arccos"):
    at_0, slope = (0, 1) if name == "arcsin" else (math.pi / 2, -1)
    at_1 = at_0 + slope * math.pi / 2
    elementwise(
        name,
        unary(-0.95, 0.95),
        point([0, 1], value=[at_0, at_1], grads=([slope, slope * inf],)),
        point(1, value=at_1, grads=(0,), g=0),
        point(2, value=nan),
    )
elementwise("arctan", unary(), point([0, inf, -inf], value=[0, math.pi / 2, -math.pi / 2], grads=([1, 0, 0],)))
broadcasting(
    "arctan2",
    binary(0.1, apart="ab"),
    point(
        [0, 0, 1, -1],
        [0, -1, 0, 0],
        value=[0, math.pi, math.pi / 2, -math.pi / 2],
        grads=([0, -1, 0, 0], [0, 0, -1, 1]),
    ),
    errors=no_broadcast("arctan2", "y", "x"),
)
elementwise("sinh", unary(), point([0, 1000], value=[0, inf], grads=([1, inf],)))
elementwise("cosh", unary(), point([0, 1000], value=[1, inf], grads=([0, inf],)))
elementwise("tanh", unary(), point([0, 1000, -inf], value=[0, 1, -1], grads=([1, 0, 0],)))
elementwise("arcsinh", unary(), point([0, inf], value=[0, inf], grads=([1, 0],)))
elementwise("arccosh", unary(1.1, 4), point(1, value=0, grads=(inf,)), point(1, value=0, grads=(0,), g=0))
elementwise(
    "arctanh",
    unary(-0.95, 0.95),
    point([0, 1], value=[0, inf], grads=([1, inf],)),
    point(1, value=inf, grads=(0,), g=0),
)

elementwise("absolute", unary(0.1, away_from_0=True), point([-1.5, 0, -inf], value=[1.5, 0, inf], grads=([-1, 0, -1],)))
elementwise("sign", unary(0.1, away_from_0=True), point([-2, 0, 2, nan], value=[-1, 0, 1, nan], grads=([0, 0, 0, 0],)))
for name, value in {"floor": [-2, 1, 2], "ceil": [-1, 2, 2], "trunc": [-1, 1, 2]}.items():
    elementwise(
        name, lambda s: ((s.between_steps(s.shape()),), {}), point([-1.5, 1.5, 2], value=value, grads=([0] * 3,))
    )


def draw_round(s: Source) -> tuple:
    decimals = s.choose(0, 1, -1, 2)
    return (s.between_steps(s.shape(), 10.0**-decimals),), {"decimals": decimals} if decimals else {}


elementwise(
    "round",
    draw_round,
    point([0.5, 1.5, -0.5], value=[0, 2, -0.0], grads=([0, 0, 0],)),
    point([1234.5], value=[1200], grads=([0],), decimals=-2),
    errors=refused(TypeError, r"round\(x: float64 \(3,\), decimals: 'a'\)", X, decimals="a"),
)


def draw_pair_without_ties(s: Source) -> tuple:
    return tuple(s.distinct(*s.shapes(2))), {}


for name, value, nearer in [("maximum", [2, 2, inf], [0, 1, 0.5]), ("minimum", [2, 1, inf], [1, 0, 0.5])]:
    broadcasting(
        name,
        draw_pair_without_ties,
        point([2, 2, inf], [2, 1, inf], value=value, grads=([0.5, nearer[1], 0.5], [0.5, nearer[0], 0.5])),
        point([nan, 1], [1, nan], value=[nan, nan]),
    )


def draw_clip(s: Source) -> tuple:
    shape, low, high = s.shapes(3) if s.integer(0, 1) else (s.shape(), (), ())
    if math.prod(np.broadcast_shapes(shape, low, high)) != math.prod(shape):
        low = high = ()  # bounds do not enlarge x here
    x, low, high = s.distinct(shape, low, high)
    low, high = np.minimum(low, high), np.maximum(low, high)
    bounds = [("min", low), ("max", high)][slice(s.integer(0, 1), s.integer(1, 2))] if s.integer(0, 5) else []
    return (x,), {name: float(bound) if bound.ndim == 0 else bound for name, bound in bounds}


elementwise(
    "clip",
    draw_clip,
    point([-2, -1, 0, 1, 2, nan], value=[-1, -1, 0, 1, 1, nan], grads=([0, 0, 1, 0, 0, None],), min=-1, max=1),
    point([-2, inf], value=[-2, 1], grads=([1, 0],), max=1),
    point([-2, 3], value=[-2, 3], grads=([1, 1],)),
    numpy=lambda x, min=None, max=None: np.clip(x, min, max),
    errors=[
        refused(ValueError, r"clip\(x: float64 \(3,\), min: float64 \(2,\)\): .*broadcast", X, min=np.ones(2)),
        refused(TypeError, "clip: .*only x can have one", X, min=tg.tensor(0.0, requires_grad=True)),
    ],
)


def draw_where(s: Source) -> tuple:
    condition, a, b = s.shapes(3)
    return (s.rng.random(condition) < 0.5, s.array(a), s.array(b)), {}


op(
    "where",
    draw_where,
    [
        point(np.array([True, False]), [1, nan], [inf, 2], value=[1, 2], grads=(None, [1, 0], [0, 1])),
        point(np.array(True), [1, 2], 3, value=[1, 2], grads=(None, [1, 1], 0)),
    ],
    refused(
        ValueError, r"where\(condition: bool \(2,\), a: float64 \(3,\), b: float64 \(\)\)", np.ones(2, bool), X, 0.0
    ),
    diff=(1, 2),
)

elementwise(
    "sigmoid",
    unary(),
    point([0, 1000, -1000, inf, -inf, nan], value=[0.5, 1, 0, 1, 0, nan], grads=([0.25, 0, 0, 0, 0, nan],)),
    point(-700, value=math.exp(-700), grads=(math.exp(-700),)),
)
elementwise(
    "relu",
    unary(0.1, away_from_0=True),
    point([-1, 0, 2, -inf, inf, nan], value=[0, 0, 2, 0, inf, nan], grads=([0, 0, 1, 0, 1, None],)),
)


def with_option(draw: Callable, name: str, *values: Any) -> Callable:
    def draw_both(s: Source) -> tuple:
        arrays, keywords = draw(s)
        value = s.choose(None, *values)
        return arrays, keywords if value is None else keywords | {name: value}

    return draw_both


elementwise(
    "leaky_relu",
    with_option(unary(0.1, away_from_0=True), "slope", 0.1, 0.3, 0),
    point([-1, 0, 2], value=[-0.1, 0, 2], grads=([0.1, 0.1, 1],), slope=0.1),
)
elementwise(
    "elu",
    with_option(unary(0.1, away_from_0=True), "alpha", 0.5, 2),
    point([-inf, 0, 1000], value=[-2, 0, 1000], grads=([0, 2, 1],), alpha=2.0),
)
elementwise(
    "softplus",
    unary(),
    point([0, 1000, -1000, -inf], value=[math.log(2), 1000, 0, 0], grads=([0.5, 1, 0, 0],)),
    point(-700, value=math.exp(-700), grads=(math.exp(-700),)),
)
elementwise("log_sigmoid", unary(), point([0, 1000, -1000], value=[-math.log(2), 0, -1000], grads=([0.5, 0, 1],)))
elementwise(
    "silu", unary(), point([0, 1000, -1000], value=[0, 1000, 0], grads=([0.5, 1, 0],)), errors=no_strings("sigmoid")
)
elementwise(
    "gelu",
    with_option(unary(), "approximate", True, False),
    point([0, 1000, -1000], value=[0, 1000, 0], grads=([0.5, 1, 0],)),
    point([0, 1000, -1000], value=[0, 1000, 0], grads=([0.5, 1, 0],), approximate=True),
    errors=refused(TypeError, r"multiply\(.*<U1 \(1,\)", STRINGS),
)
elementwise(
    "erf",
    lambda s: ((s.array(s.shape(), *s.choose((-3, 3), (-0.6, 0.6), (-7, 7))),), {}),
    point([0, 1, inf, -inf], value=[0, math.erf(1), 1, -1], grads=([2 / math.sqrt(math.pi), None, 0, 0],)),
)


# Kinds of numbers, devices; comparisons -------------------------------------------------------------------------------

op(
    "astype",
    lambda s: (unary()(s)[0], {"dtype": s.choose(np.float64, float)}),
    [
        point([1.1, 2], value=np.float32([1.1, 2]), grads=([1, 1],), dtype=np.float32),
        point([1.5, -2.5], value=np.array([1, -2]), dtype=int),
    ],
    refused(TypeError, r"astype\(x: float64 \(3,\), dtype: 'nonsense'\)", X, dtype="nonsense"),
    ref=lambda x, dtype: 1 * x,
    numpy=None,
)
op(
    "to",
    lambda s: (unary()(s)[0], {"device": "cpu"}),
    point(X, value=X, grads=([1, 1, 1],), device="cpu"),
    refused(ValueError, "device: expected 'cpu'", X, device="tpu"),
    ref=lambda x, device: x,
    numpy=None,
    view=True,
    device=False,
)


def draw_close(s: Source) -> tuple:
    return tuple(s.rng.integers(-1, 2, shape) / 2 for shape in s.shapes(2)), {}


for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    value = getattr(np, name)([1, 2, nan], [1, 1, nan])
    op(
        name,
        draw_close,
        point([1, 2, nan], [1, 1, nan], value=value),
        refused(ValueError, "broadcast", M, [1.0] * 4),
        diff=(),
    )
for name, value in {
    "isnan": [True, False, False],
    "isinf": [False, True, False],
    "isfinite": [False, False, True],
}.items():
    op(name, unary(), point([nan, -inf, 0], value=value), refused(TypeError, name, STRINGS), diff=())


# Shapes ---------------------------------------------------------------------------------------------------------------


def draw_reshape(s: Source) -> tuple:
    x = s.array(s.shape())
    sides: list[int] = []
    for i in s.order(x.ndim):
        if sides and s.integer(0, 2) == 0:
            sides[-1] *= x.shape[i]
        else:
            sides.insert(s.integer(0, len(sides)), s.choose(1, x.shape[i]))
            if sides[-1] == 1 or sides[0] == 1:
                sides.append(x.shape[i])
    if math.prod(sides) != x.size:
        sides = [x.shape[i] for i in s.order(x.ndim)]
    if x.size and s.integer(0, 1):
        i = s.integer(0, len(sides))
        sides[i : i + 1] = [-1]
    return (x,), {"shape": sides[0] if len(sides) == 1 and s.integer(0, 1) else tuple(sides)}


def draw_permuted(s: Source) -> tuple:
    x = s.array(s.shape())
    axes = [i - x.ndim * s.integer(0, 1) for i in s.order(x.ndim)]
    return (x,), s.choose({"axes": tuple(axes)}, {"axes": axes}, {}, {"axes": None})


def draw_moveaxis(s: Source) -> tuple:
    x = s.array(s.shape(1))
    if s.integer(0, 1):
        return (x,), {"source": s.axis(x.ndim), "destination": s.axis(x.ndim)}
    n = s.integer(0, x.ndim)
    places = [tuple(i - x.ndim * s.integer(0, 1) for i in s.order(x.ndim)[:n]) for _ in range(2)]
    return (x,), dict(zip(("source", "destination"), places))


def draw_broadcast_to(s: Source) -> tuple:
    shape, other = s.shapes(2)
    return (s.array(shape),), {"shape": np.broadcast_shapes(shape, other)}


def draw_expand_dims(s: Source) -> tuple:
    x = s.array(s.shape())
    n = s.integer(0, 2)
    axes = tuple(i - (x.ndim + n) * s.integer(0, 1) for i in s.order(x.ndim + n)[:n])
    return (x,), {"axis": s.axis(x.ndim + 1) if n == 0 or s.integer(0, 1) else axes}


def draw_squeeze(s: Source) -> tuple:
    shape = s.shape(sides=(1, 2, 1, 3))
    ones = [i for i, n in enumerate(shape) if n == 1]
    axes = tuple(i - len(shape) * s.integer(0, 1) for i in ones)[: s.integer(0, len(ones))]
    return (s.array(shape),), s.choose(
        {"axis": axes[0] if len(axes) == 1 else axes}, {"axis": axes}, {}, {"axis": None}
    )


op(
    "reshape",
    draw_reshape,
    point(M, value=[[1, 2], [3, 4], [5, 6]], grads=(np.ones((2, 3)),), shape=(3, -1)),
    refused(ValueError, r"reshape\(x: float64 \(2, 3\), shape: \(4, 2\)\)", M, shape=(4, 2)),
    view=True,
)
op("ravel", unary(), point(3, value=[3], grads=(1,)), refused(TypeError, "ravel|argument", X, order="F"), view=True)
op(
    "transpose",
    draw_permuted,
    point(M, value=np.transpose(M), grads=([[1, 3, 5], [2, 4, 6]],), g=[[1, 2], [3, 4], [5, 6]]),
    [
        refused(ValueError, r"transpose\(x: float64 \(2, 3\), axes: \(0, 0\)\)", M, axes=(0, 0)),
        refused(ValueError, "transpose", M, axes=(0, 2)),
    ],
    view=True,
)
op(
    "matrix_transpose",
    lambda s: ((s.array(s.shape(2, 4)),), {}),
    point(M, value=np.transpose(M), grads=(np.ones((2, 3)),)),
    refused(np.exceptions.AxisError, "out of bounds", X),
    view=True,
)
op(
    "swapaxes",
    lambda s: ((x := s.array(s.shape(1)),), {"axis1": s.axis(x.ndim), "axis2": s.axis(x.ndim)}),
    point(M, value=np.transpose(M), grads=(np.ones((2, 3)),), axis1=0, axis2=-1),
    refused(np.exceptions.AxisError, r"swapaxes\(.*axis2: 2\)", M, axis1=0, axis2=2),
    view=True,
)
op(
    "moveaxis",
    draw_moveaxis,
    point([M], value=np.moveaxis([M], 0, -1), grads=(np.ones((1, 2, 3)),), source=0, destination=-1),
    [
        refused(np.exceptions.AxisError, r"moveaxis\(.*out of bounds", M, source=2, destination=0),
        refused(ValueError, "moveaxis.*same number", M, source=(0, 1), destination=0),
    ],
    view=True,
)
op(
    "broadcast_to",
    draw_broadcast_to,
    [
        point([1, 2], value=[[1, 2]] * 3, grads=([3, 3],), shape=(3, 2)),
        point([[1], [2]], value=np.ones((2, 0)), grads=([[0], [0]],), shape=(2, 0)),
    ],
    refused(ValueError, r"broadcast_to\(x: float64 \(3,\), shape: \(2,\)\)", X, shape=(2,)),
    view=True,
)
op(
    "expand_dims",
    draw_expand_dims,
    point(X, value=[[1], [2], [3]], grads=([1, 1, 1],), axis=-1),
    refused(np.exceptions.AxisError, "expand_dims.*out of bounds", X, axis=2),
    view=True,
)
op(
    "squeeze",
    draw_squeeze,
    point([[[2]]], value=[2], grads=([[[1]]],), axis=(0, -1)),
    refused(ValueError, "squeeze.*not equal to one", M, axis=0),
    view=True,
)


def draw_flip(s: Source) -> tuple:
    x = s.array(s.shape())
    return (x,), s.choose({"axis": s.axes(x.ndim)}, {"axis": s.axes(x.ndim)}, {})


op(
    "flip",
    draw_flip,
    point(M, value=[[3, 2, 1], [6, 5, 4]], grads=([[3, 2, 1], [6, 5, 4]],), g=M, axis=-1),
    refused(np.exceptions.AxisError, "flip.*axis: 2.*out of bounds", M, axis=2),
    view=True,
)


def draw_joined(new_axis: bool) -> Callable:
    def draw(s: Source) -> tuple:
        n = s.integer(1, 4)
        shape = s.shape(0 if new_axis else 1)
        axis = s.axis(len(shape) + new_axis)
        shapes = [list(shape) for _ in range(n)]
        if not new_axis:
            for each in shapes:
                each[axis] = s.choose(2, 1, 3, 0)
            if s.integer(0, 5) == 5:
                axis = None
        arrays = tuple(s.array(tuple(each)) for each in shapes)
        return arrays, {} if axis == 0 and s.integer(0, 1) else {"axis": axis}

    return draw


op(
    "stack",
    draw_joined(new_axis=True),
    [
        point(X, X, value=[X, X], grads=([1, 3, 5], [2, 4, 6]), g=[[1, 3, 5], [2, 4, 6]], axis=0),
        point(X, X, value=np.stack([X, X], -1), grads=([1, 2, 3], [0, 0, 0]), g=[[1, 0], [2, 0], [3, 0]], axis=-1),
    ],
    [
        refused(
            ValueError, r"stack\(arrays\[0\]: float64 \(3,\), arrays\[1\]: float64 \(2, 3\), axis: 0\)", X, M, axis=0
        ),
        refused(np.exceptions.AxisError, "stack", X, X, axis=2),
        refused(ValueError, "stack: arrays: expected at least one"),
    ],
    fn=lambda *arrays, axis=0: ops.stack(arrays, axis),
    numpy=lambda *arrays, axis=0: np.stack(arrays, axis),
)
op(
    "concatenate",
    draw_joined(new_axis=False),
    [
        point(X, [4], value=[1, 2, 3, 4], grads=([1, 2, 3], [4]), g=[1, 2, 3, 4], axis=-1),
        point(M, X, value=[1, 2, 3, 4, 5, 6, 1, 2, 3], grads=(np.ones((2, 3)), [1, 1, 1]), axis=None),
    ],
    [
        refused(
            ValueError,
            r"concatenate\(arrays\[0\]: float64 \(3,\), arrays\[1\]: float64 \(2, 3\), axis: 0\)",
            X,
            M,
            axis=0,
        ),
        refused(ValueError, "concatenate: arrays: expected at least one"),
    ],
    fn=lambda *arrays, axis=0: ops.concatenate(arrays, axis),
    numpy=lambda *arrays, axis=0: np.concatenate(arrays, axis),
)


def draw_split(s: Source) -> tuple:
    x = s.array(s.shape(1, sides=(4, 2, 3, 6, 0)))
    axis = s.axis(x.ndim)
    n = x.shape[axis]
    cuts = sorted(s.integer(0, n) for _ in range(s.integer(0, 3)))
    where = s.choose(
        s.choose(*[d for d in range(1, max(n, 1) + 1) if n % d == 0]), cuts, tuple(cuts), np.array(cuts, int)
    )
    return (x,), {"indices_or_sections": where} | s.choose({"axis": axis}, {"axis": axis} if axis else {})


op(
    "split",
    draw_split,
    [
        point(
            M,
            value=([[1, 2], [4, 5]], [[3], [6]]),
            grads=([[1, 2, 5], [3, 4, 6]],),
            g=[1, 2, 3, 4, 5, 6],
            indices_or_sections=[2],
            axis=-1,
        )
    ],
    [
        refused(ValueError, r"split\(.*equal division", X, indices_or_sections=2),
        refused(ValueError, r"split\(.*ascend", X, indices_or_sections=[2, 1]),
    ],
    numpy=lambda x, indices_or_sections, axis=0: tuple(np.split(x, indices_or_sections, axis)),
    view=True,
)
op(
    "unstack",
    lambda s: ((x := s.array(s.shape(1, sides=(2, 3, 1, 4))),), {"axis": s.axis(x.ndim)} if s.integer(0, 3) else {}),
    point(M, value=([1, 4], [2, 5], [3, 6]), grads=([[1, 3, 5], [2, 4, 6]],), g=[1, 2, 3, 4, 5, 6], axis=1),
    [refused(np.exceptions.AxisError, "unstack.*axis: 2", M, axis=2), refused(TypeError, "unstack", 1.0)],
    ref=lambda x, axis=0: tuple(np.moveaxis(x, axis, 0)),
    numpy=None,
    view=True,
)


def draw_tile(s: Source) -> tuple:
    reps = tuple(s.choose(2, 1, 3, 0) for _ in range(s.integer(0, 4)))
    return (s.array(s.shape(0, 2)),), {"reps": s.choose(reps, s.integer(0, 3), list(reps))}


def draw_repeat(s: Source) -> tuple:
    x = s.array(s.shape())
    axis = s.choose(None, s.axis(x.ndim)) if x.ndim else None
    n = x.size if axis is None else x.shape[axis]
    repeats = s.choose(s.integer(0, 3), s.rng.integers(0, 3, n), s.rng.integers(0, 3, n).tolist())
    return (x,), {"repeats": repeats} | ({} if axis is None and s.integer(0, 1) else {"axis": axis})


def draw_roll(s: Source) -> tuple:
    x = s.array(s.shape())
    axis = (axis if (axis := s.axes(x.ndim)) != () else None) if s.integer(0, 2) else None
    shift = (
        s.integer(-5, 5) if not isinstance(axis, tuple) or s.integer(0, 1) else tuple(s.integer(-4, 4) for _ in axis)
    )
    return (x,), {"shift": shift} | ({} if axis is None and s.integer(0, 1) else {"axis": axis})


op(
    "tile",
    draw_tile,
    point([1, 2], value=[[1, 2, 1, 2]] * 2, grads=([4, 4],), reps=(2, 2)),
    refused(TypeError, "tile|float", X, reps=1.5),
    view=None,
)
op(
    "repeat",
    draw_repeat,
    [
        point([1, 2], value=[1, 1, 1, 2], grads=([3, 1],), repeats=[3, 1]),
        point(M, value=np.repeat(M, 2), grads=(np.full((2, 3), 2),), repeats=2),
    ],
    [
        refused(np.exceptions.AxisError, "out of bounds", X, repeats=2, axis=1),
        refused(ValueError, "broadcast", X, repeats=[1, 2], axis=0),
    ],
    view=None,
)
op(
    "roll",
    draw_roll,
    point(X, value=[3, 1, 2], grads=([2, 3, 1],), g=X, shift=1),
    refused(np.exceptions.AxisError, r"roll\(.*axis: 1\)", X, shift=1, axis=1),
)

PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def draw_pad(s: Source) -> tuple:
    mode = s.choose(*PAD_MODES)
    x = s.array(s.shape(1, 2 if mode != "constant" else 3, sides=(2, 3, 1, 4)))

    def pairs(value: Callable) -> Any:
        one = [(value(), value()) for _ in range(x.ndim)]
        return s.choose(one[0][0], one[0], tuple(one))

    keywords = {"pad_width": pairs(lambda: s.integer(0, 3))}
    if mode != "constant" or s.integer(0, 1):
        keywords["mode"] = mode
    if mode == "constant" and s.integer(0, 1):
        keywords["constant_values"] = pairs(lambda: s.choose(1.5, -2))
    return (x,), keywords


op(
    "pad",
    draw_pad,
    [
        point(X, value=[3, 2, 1, 2, 3, 2, 1], grads=([2, 3, 2],), pad_width=2, mode="reflect"),
        point(X, value=[9, 1, 2, 3], grads=([2, 3, 4],), g=[1, 2, 3, 4], pad_width=(1, 0), constant_values=9),
    ],
    [
        refused(ValueError, "pad: mode: expected one of 'constant'", X, pad_width=1, mode="mirror"),
        refused(ValueError, "pad: constant_values", X, pad_width=1, mode="edge", constant_values=1),
        refused(ValueError, "pad", X, pad_width=-1),
    ],
    view=None,
    ref=lambda x, pad_width, mode="constant", **k: np.pad(x, pad_width, mode, **k),
)
for name, value in {"tril": [[0, 0, 0], [4, 0, 0]], "triu": [[1, 2, 3], [0, 5, 6]]}.items():
    k = -1 if name == "tril" else 0
    op(
        name,
        lambda s: ((s.array(s.shape(2, 3)),), {"k": s.integer(-3, 3)} if s.integer(0, 3) else {}),
        point(M, value=value, grads=((np.array(value) != 0).astype(float),), k=k),
        refused(TypeError, rf"{name}\(x: float64 \(2, 3\), k: 'a'\)", M, k="a"),
    )


def draw_diagonal(s: Source) -> tuple:
    x = s.array(s.shape(2, 4, sides=(2, 3, 1, 4, 0)))
    if s.integer(0, 3) == 0:
        return (x,), {}
    axis1, axis2 = (i - x.ndim * s.integer(0, 1) for i in s.order(x.ndim)[:2])
    return (x,), {"offset": s.integer(-3, 3), "axis1": axis1, "axis2": axis2}


TALL = np.arange(8.0).reshape(4, 2)
op(
    "diagonal",
    draw_diagonal,
    point(TALL, value=[2, 5], grads=([[0, 0], [1, 0], [0, 2], [0, 0]],), g=[1, 2], offset=-1),
    [
        refused(ValueError, "diagonal: x: expected two dimensions or more", X),
        refused(ValueError, "axis", M, axis1=0, axis2=0),
    ],
    view=None,
)
op(
    "trace",
    draw_diagonal,
    point(TALL, value=3, grads=([[1, 0], [0, 1], [0, 0], [0, 0]],)),
    refused(ValueError, "diagonal: x: expected two dimensions or more", X),
    ref=np.trace,
)


# Indices --------------------------------------------------------------------------------------------------------------


def draw_getitem(s: Source) -> tuple:
    x = s.array(s.shape())
    return (x,), {"index": s.index(x.shape)}


def draw_put(s: Source) -> tuple:
    shape = s.shape()
    index = s.index(shape)
    return (s.array(np.shape(np.zeros(shape)[index])),), {"index": index, "shape": shape}


def put(x: Any, index: Any, shape: tuple) -> Any:
    out = np.zeros(shape, x.dtype)
    np.add.at(out, index, x)
    return out


def draw_take(s: Source) -> tuple:
    x = s.array(s.shape(1, sides=(2, 3, 1, 4)))
    axis = s.choose(s.axis(x.ndim), None)
    n = x.size if axis is None else x.shape[axis]
    indices = s.rng.integers(-n, n, s.shape(0, 2, sides=(2, 3, 1, 4, 0)))
    return (x,), {"indices": s.choose(indices, indices.tolist())} | (
        {} if axis is None and s.integer(0, 1) else {"axis": axis}
    )


def draw_take_along_axis(s: Source) -> tuple:
    x = s.array(s.shape(1, sides=(2, 3, 1, 4)))
    axis = s.choose(s.axis(x.ndim), s.axis(x.ndim), None)
    shape = [1 if s.integer(0, 4) == 4 else n for n in x.shape] if axis is not None else [0]
    shape[axis or 0] = s.choose(2, 1, 3, 0)
    n = x.size if axis is None else x.shape[axis]
    keywords = {"indices": s.rng.integers(-n, n, shape)}
    default = axis is not None and axis % x.ndim == x.ndim - 1 and s.integer(0, 1)
    return (x,), keywords if default else keywords | {"axis": axis}


IN_X = r"float64 \(3,\)"
op(
    "getitem",
    draw_getitem,
    [
        point(X, value=[1, 3, 3], grads=([1, 0, 5],), g=[1, 2, 3], index=[0, 2, 2]),
        point(X, value=[3, 2, 1], grads=([3, 2, 1],), g=X, index=slice(None, None, -1)),
        point(
            M,
            value=[[6, 4]],
            grads=([[0, 0, 0], [2, 0, 1]],),
            g=[[1, 2]],
            index=(slice(-1, 0, -1), slice(None, None, -2)),
        ),
        point(M, value=[2, 3, 5, 6], grads=([[0, 1, 1], [0, 1, 1]],), index=np.array([[False, True, True]] * 2)),
        point(X, value=[], grads=([0, 0, 0],), index=np.zeros(3, bool)),
        point(X, value=[X], grads=([1, 1, 1],), index=np.True_),
        point(X, value=3, grads=([0, 0, 1],), index=-1),
        point(X, value=[2, 2], grads=([0, 2, 0],), index=tg.tensor([1, 1])),
    ],
    [
        refused(IndexError, rf"getitem\(x: {IN_X}, index: 3\): .*out of bounds", X, index=3),
        refused(IndexError, "getitem", X, index=[0, 3]),
        refused(IndexError, "getitem.*too many", X, index=(0, 0)),
        refused(IndexError, "getitem.*boolean", X, index=np.ones(2, bool)),
        refused(IndexError, "getitem", X, index=1.0),
    ],
    ref=lambda x, index: x[index],
    view=True,
)
op(
    "put",
    draw_put,
    point(X, value=[1, 0, 5, 0], grads=([1, 3, 3],), g=[1, 2, 3, 4], index=[0, 2, 2], shape=(4,)),
    refused(IndexError, "put", X, index=[0, 1, 4], shape=(4,)),
    fn=indexing.put,
    ref=put,
    numpy=None,
)
op(
    "take",
    draw_take,
    [
        point(X, value=[[3, 3], [1, 3]], grads=([1, 0, 3],), indices=[[2, -1], [0, 2]]),
        point(M, value=np.ones((2, 0)), grads=(np.zeros((2, 3)),), indices=[], axis=1),
    ],
    [
        refused(IndexError, "getitem|take", X, indices=[3]),
        refused(TypeError, "take: indices: expected integers", X, indices=[0.5]),
        refused(np.exceptions.AxisError, "out of bounds", X, indices=[0], axis=1),
    ],
)
op(
    "take_along_axis",
    draw_take_along_axis,
    point(
        M,
        value=[[3, 3], [4, 5]],
        grads=([[0, 0, 3], [3, 4, 0]],),
        g=[[1, 2], [3, 4]],
        indices=np.array([[2, 2], [0, 1]]),
    ),
    [
        refused(ValueError, "take_along_axis: indices: expected 2 dimensions", M, indices=np.array([0])),
        refused(TypeError, "take_along_axis: indices: expected integers", X, indices=np.array([0.5])),
        refused(IndexError, "getitem|take", X, indices=np.array([3])),
    ],
)


def draw_at(repeats: bool) -> Callable:
    def draw(s: Source) -> tuple:
        x = s.array(s.shape())
        index = s.index(x.shape, repeats)
        shape = np.shape(x[index])
        mask = isinstance(index, np.ndarray) and index.dtype.kind == "b"
        drops = shape and not repeats and not mask  # += does not, nor does a mask
        ones = (1, *shape) if drops else shape  # an assignment drops axes in front
        shape = s.choose(shape, shape[s.integer(0, len(shape)) :], tuple(s.choose(1, n) for n in shape), ones)
        v = s.array(shape)
        return (x, float(v) if shape == () and s.integer(0, 1) else v), {"index": index}

    return draw


def at(method: str) -> Callable:
    return lambda x, v, index: getattr(ops.at(x)[index], method)(v)


def changed(x: Any, v: Any, index: Any, change: Callable) -> Any:
    out = np.array(x, np.result_type(x, v))
    change(out, index, v)
    return out


TWICE = refused(ValueError, "at.set.*names a place twice.*add", X, X, index=[0, 0, 1])
MISFIT = refused(ValueError, "at.*float64", X, [1.0, 2.0], index=slice(None))
op(
    "at.set",
    draw_at(repeats=False),
    [
        point(X, [7, 8], value=[7, 2, 8], grads=([0, 2, 0], [1, 3]), g=X, index=[0, 2]),
        point(X, 7, value=[7, 2, 7], grads=([0, 1, 0], 2), index=[0, 2]),
        point(X, [[7, 8, 9]], value=[7, 8, 9], grads=([0, 0, 0], [[1, 1, 1]]), index=...),
    ],
    [TWICE, MISFIT, refused(IndexError, "at.set", X, 0.0, index=3)],
    fn=at("set"),
    ref=lambda x, v, index: changed(x, v, index, lambda out, i, v: out.__setitem__(i, v)),
)
op(
    "at.add",
    draw_at(repeats=True),
    point(X, [7, 8, 9], value=[8, 2, 20], grads=([1, 1, 1], [1, 1, 1]), index=[0, 2, 2]),
    [MISFIT, refused(IndexError, "at.add", X, 0.0, index=3)],
    fn=at("add"),
    ref=lambda x, v, index: changed(x, v, index, np.add.at),
)
op(
    "at.multiply",
    draw_at(repeats=False),
    point(X, 7, value=[7, 2, 21], grads=([7, 1, 7], 4), index=[0, 2]),
    [refused(ValueError, "at.set.*names a place twice", X, X, index=[0, 0, 1])],
    fn=at("multiply"),
    ref=lambda x, v, index: changed(x, v, index, lambda out, i, v: out.__setitem__(i, out[i] * v)),
)


def draw_one_hot(s: Source) -> tuple:
    n = s.integer(1, 4)
    keywords = s.choose({}, {"dtype": float}, {"dtype": np.float64})
    return (s.rng.integers(0, n, s.shape(0, 2)),), {"num_classes": n} | keywords


op(
    "one_hot",
    draw_one_hot,
    [
        point(np.array([0, 2]), value=[[1, 0, 0], [0, 0, 1]], num_classes=3),
        point(np.array(1), value=np.float32([0, 1]), num_classes=2, dtype=np.float32),
    ],
    [
        refused(ValueError, "one_hot: indices: expected 0 to 1", np.array([2]), num_classes=2),
        refused(ValueError, "one_hot: indices", np.array([-1]), num_classes=2),
        refused(TypeError, "one_hot: indices: expected integers", [0.5], num_classes=2),
    ],
    ref=lambda x, num_classes, dtype=float: np.eye(num_classes, dtype=dtype)[x],
    diff=(),
)


# Reductions -----------------------------------------------------------------------------------------------------------


def reduction(make: Callable, empty: bool = False, one_axis: bool = False, none: bool = True) -> Callable:
    """axis and keepdims; ``empty``: sums over nothing, too; ``one_axis``: no tuples; ``none``: axis=None, too."""

    def draw(s: Source) -> tuple:
        shape = s.shape(0 if none else 1)
        axis = s.axes(len(shape))
        if (axis is None and not none) or (one_axis and isinstance(axis, tuple)):
            axis = s.axis(len(shape)) if shape else None
        reduced = shape if axis is None else [shape[i] for i in (axis if isinstance(axis, tuple) else (axis,))]
        if not empty and 0 in reduced:
            shape = tuple(n or 2 for n in shape)
        keywords: dict[str, Any] = {} if axis is None and s.integer(0, 1) else {"axis": axis}
        if s.integer(0, 2) == 2:
            keywords["keepdims"] = s.choose(True, False)
        return (make(s, shape),), keywords

    return draw


def plain(s: Source, shape: tuple) -> np.ndarray:
    return s.array(shape)


def distinct(s: Source, shape: tuple) -> np.ndarray:
    return s.distinct(shape)[0]


def bad_axis(name: str, axis: Any = 2) -> Refused:
    return refused(np.exceptions.AxisError, rf"axis {axis} is out of bounds", M, axis=axis)


NOTHING = np.zeros((0, 3))
op(
    "sum",
    reduction(plain, empty=True),
    [
        point(M, value=[5, 7, 9], grads=([X, X],), g=X, axis=0),
        point(NOTHING, value=[0, 0, 0], grads=(NOTHING,), axis=0),
        point(M, value=M, grads=(M,), g=M, axis=()),
    ],
    [
        refused(np.exceptions.AxisError, r"sum\(x: float64 \(2, 3\), axis: 2\): axis 2 is out of bounds", M, axis=2),
        refused(ValueError, "sum.*duplicate", M, axis=(0, -2)),
    ],
)
op(
    "mean",
    reduction(plain),
    [
        point(M, value=[2, 5], grads=([[1 / 3] * 3, [2 / 3] * 3],), g=[1, 2], axis=1),
        point(NOTHING, value=[nan] * 3, grads=(NOTHING,), axis=0),
    ],
    bad_axis("mean"),
)
op(
    "prod",
    reduction(plain, empty=True),
    [
        point([2, 0, 3], value=0, grads=([0, 6, 0],)),
        point([0, 2, 0], value=0, grads=([0, 0, 0],)),
        point([[0, 2], [3, 4]], value=0, grads=([[24, 0], [0, 0]],)),
        point([0, 0], value=0, grads=([0, 0],)),
        point([0], value=0, grads=([1],)),
        point(NOTHING, value=[1, 1, 1], grads=(NOTHING,), axis=0),
        point([inf, 0], value=nan, grads=([0, inf],)),
    ],
    bad_axis("prod"),
)
for name, pick in {"max": 1, "min": -1}.items():
    op(
        name,
        reduction(distinct),
        [
            point(np.multiply([2.0, 1, 2], pick), value=2 * pick, grads=([0.5, 0, 0.5],)),
            point(np.multiply([[3.0, 3], [3, 1]], pick), value=[3 * pick] * 2, grads=([[0.5, 1], [0.5, 0]],), axis=0),
            point([1, nan, nan], value=nan, grads=([0, 0.5, 0.5],)),
            point([inf, -inf], value=pick * inf),
            point(np.zeros((2, 0)), value=[], grads=(np.zeros((2, 0)),), axis=0),
        ],
        [refused(ValueError, rf"{name}\(x: float64 \(0, 3\), axis: 0\)", NOTHING, axis=0), bad_axis(name)],
    )


def with_ddof(draw: Callable) -> Callable:
    def draw_both(s: Source) -> tuple:
        (x,), keywords = draw(s)
        axis = keywords.get("axis")
        n = x.size if axis is None else math.prod(x.shape[i] for i in (axis if isinstance(axis, tuple) else (axis,)))
        return (x,), keywords | ({"ddof": s.choose(1, 0)} if n > 1 and s.integer(0, 1) else {})

    return draw_both


def draw_std(s: Source) -> tuple:
    """Over at least two elements, or everything is at the kink."""
    (x,), keywords = with_ddof(reduction(distinct))(s)
    axis = keywords.get("axis")
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if math.prod(x.shape[i] for i in axes) < 2:
        return (distinct(s, (3, 2)),), s.choose({"axis": 0, "ddof": 1}, {"axis": (1, 0), "keepdims": True})
    return (x,), keywords


op(
    "var",
    with_ddof(reduction(plain)),
    [
        point([1, 2, 3], value=1, grads=([-1, 0, 1],), ddof=1),
        point([2, 2], value=0, grads=([0, 0],)),
        point([5], value=0, grads=([0],)),
        point([5], value=nan, grads=([nan],), ddof=1),
    ],
    bad_axis("var"),
)
op(
    "std",
    draw_std,
    [
        point([0.1] * 3, value=0, grads=([0, 0, 0],)),
        point([2, 2, 2], value=0, grads=([0, 0, 0],)),
        point([5], value=0, grads=([0],)),
        point([5], value=nan, ddof=1),
        point([[1, 3], [2, 2]], value=[1, 0], grads=([[-0.5, 0.5], [0, 0]],), axis=1),
    ],
    bad_axis("std"),
    ties=False,
)


def draw_norm(s: Source) -> tuple:
    shape = s.shape(sides=(2, 3, 1, 4))
    kind = s.choose("vector", "all", "matrix")
    keywords: dict[str, Any] = {"keepdims": s.choose(True, False)} if s.integer(0, 1) else {}
    if kind == "vector" and shape:
        keywords |= {"axis": s.axis(len(shape)), "ord": s.choose(None, 2, 1, inf, -inf, 3, 1.5, 0.5)}
    elif kind == "matrix" and len(shape) >= 2:
        axis = tuple(i - len(shape) * s.integer(0, 1) for i in s.order(len(shape))[:2])
        keywords |= {"axis": axis, "ord": s.choose(None, "fro", 1, -1, inf, -inf)}
        if len(shape) == 2 and s.integer(0, 1):
            keywords["axis"] = None if keywords["ord"] else axis
    return (distinct(s, shape),), keywords


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    axes = tuple(range(np.ndim(x))) if axis is None else axis
    if ord in (1, -1, inf, -inf) and isinstance(axes, tuple) and len(axes) == 2:
        summed, rest = axes if abs(ord) == 1 else axes[::-1]
        sums = np.sum(references.absolute(x), axis=summed, keepdims=True)
        out = (references.max if ord > 0 else references.min)(sums, rest, True)
        return out if keepdims else np.squeeze(out, axes)
    return references.norm(x, ord, axis, keepdims)


op(
    "norm",
    draw_norm,
    [
        point([0, 0], value=0, grads=([0, 0],)),
        point([3, 4], value=5, grads=([0.6, 0.8],)),
        point([0, 2], value=2, grads=([0, 1],), ord=1),
        point([0, 0], value=0, grads=([0, 0],), ord=3),
        point([-3, 3, 1], value=3, grads=([-0.5, 0.5, 0],), ord=inf),
        point([0, 2], value=2, grads=([0, 1],), ord=1.5),
        point([3e200, 4e200], value=5e200, grads=([0.6, 0.8],)),
        point([3e-200, 4e-200], value=5e-200, grads=([0.6, 0.8],)),
        point(NOTHING, value=[0, 0, 0], grads=(NOTHING,), axis=0),
        point([inf, 1], value=inf),
        point([[3, 0], [4, 0]], value=[5, 0], grads=([[0.6, 0], [0.8, 0]],), axis=0),
    ],
    [
        refused(ValueError, "norm: ord: for vectors expected", X, ord=0),
        refused(ValueError, "norm.*singular values", M, ord=2),
        refused(ValueError, "norm: axis: expected one axis", [M], ord=1),
        bad_axis("norm"),
        refused(ValueError, "norm: ord: for matrices expected", M, ord=3),
    ],
    ref=norm,
)
for name in ("cumsum", "cumprod"):
    op(
        name,
        lambda s: (
            (x := s.array(s.shape()),),
            s.choose({"axis": s.axis(x.ndim)}, {}, {"axis": None}) if x.ndim else {},
        ),
        [point([2, 3, 4], value=[2, 5, 9], grads=([6, 5, 3],), g=[1, 2, 3])]
        if name == "cumsum"
        else [
            point([2, 0, 4, 0], value=[2, 0, 0, 0], grads=([1, 10, 0, 0],)),
            point([2, 3, 0], value=[2, 6, 0], grads=([4, 2, 6],)),
            point([0, 0, 5], value=[0, 0, 0], grads=([1, 0, 0],)),
            point([[0, 2], [3, 4]], value=[0, 0, 0, 0], grads=([[1 + 2 + 6 + 24, 0], [0, 0]],)),
            point(NOTHING, value=NOTHING, grads=(NOTHING,), axis=0),
        ],
        refused(np.exceptions.AxisError, rf"{name}\(x: float64 \(2, 3\), axis: 2\)", M, axis=2),
    )

LOW = [-inf, -inf]
op(
    "logsumexp",
    reduction(plain),
    [
        point([1000, 1000], value=1000 + math.log(2), grads=([0.5, 0.5],)),
        point([-1000, -1000], value=-1000 + math.log(2), grads=([0.5, 0.5],)),
        point([1e308, -1e308], value=1e308, grads=([1, 0],)),
        point(LOW, value=-inf, grads=([0, 0],)),
        point([0, -inf], value=0, grads=([1, 0],)),
        point([inf, 0], value=inf, grads=([nan, None],)),
        point([LOW, [0, 0]], value=[-inf, math.log(2)], grads=([[0, 0], [0.5, 0.5]],), axis=1),
    ],
    bad_axis("logsumexp"),
)


def draw_softmax(s: Source) -> tuple:
    (x,), keywords = reduction(plain, none=False)(s)
    keywords.pop("keepdims", None)
    return (x,), {} if keywords.get("axis") in (-1, x.ndim - 1) and s.integer(0, 1) else keywords


op(
    "softmax",
    draw_softmax,
    [
        point([1000, 1000, -inf], value=[0.5, 0.5, 0], grads=([0.25, -0.25, 0],), g=[1, 0, 0]),
        point([1e308, -1e308], value=[1, 0], grads=([0, 0],), g=[1, 2]),
        point([-1e308, -1e308], value=[0.5, 0.5], grads=([-0.25, 0.25],), g=[1, 2]),
        point(LOW, value=[0, 0], grads=([0, 0],), g=[1, 2]),
        point([inf, 0], value=[nan, 0]),
        point([LOW, [0, 0]], value=[[0, 0], [0.5, 0.5]], grads=([[0, 0], [0.25, -0.25]],), g=[[1, 0], [1, 0]]),
    ],
    refused(np.exceptions.AxisError, r"softmax\(.*axis: 2", M, axis=2),
)
op(
    "log_softmax",
    draw_softmax,
    [
        point([0, -1000], value=[0, -1000], grads=([-1, 1],)),
        point([0, -1000], value=[0, -1000], grads=([-1, 1],), g=[0, 1]),
        point([1000, 1000], value=[-math.log(2)] * 2, grads=([0.5, -0.5],), g=[1, 0]),
        point([1e308, -1e308], value=[0, -inf], grads=([0, 0],), g=[1, 0]),
        point([0, -inf], value=[0, -inf], grads=([0, 0],), g=[1, 0]),
        point(LOW, value=LOW, grads=([0, 0],), g=[0, 0]),
    ],
    refused(np.exceptions.AxisError, r"log_softmax\(.*axis: 2", M, axis=2),
)

for name, value in {"argmax": 1, "argmin": 0}.items():
    op(
        name,
        reduction(distinct, one_axis=True),
        [point([1, 5, 5, 1], value=value), point([1, nan], value=1)],
        [refused(np.exceptions.AxisError, "out of bounds", M, axis=2), refused(ValueError, "empty", [])],
        diff=(),
    )
for name, value in {"all": [False, True], "any": [True, True]}.items():
    op(
        name,
        reduction(lambda s, shape: s.rng.integers(0, 2, shape).astype(float), empty=True),
        [point([[0, 2], [1, nan]], value=value, axis=1), point([], value=name == "all")],
        refused(np.exceptions.AxisError, "out of bounds", M, axis=2),
        diff=(),
    )


# Products of matrices, equations --------------------------------------------------------------------------------------


def draw_matmul(s: Source) -> tuple:
    n, k, m = (s.choose(2, 3, 1, 4, 0) for _ in range(3))
    stacks = s.shapes(2, sides=(2, 3, 1, 2, 0))
    a = s.choose((*stacks[0], n, k), (n, k), (k,))
    b = s.choose((*stacks[1], k, m), (k, m), (k,))
    return (s.array(a), s.array(b)), {}


def draw_two_matrices(s: Source, transposed: tuple) -> tuple:
    n, k, m = (s.choose(2, 3, 1, 4, 0) for _ in range(3))
    return (s.array((k, n) if transposed[0] else (n, k)), s.array((m, k) if transposed[1] else (k, m))), {}


def draw_dot(s: Source) -> tuple:
    k = s.choose(2, 3, 1, 0)
    a, b = s.shape(0, 3), s.shape(0, 3)
    a = (*a[:-1], k) if a else a
    b = (*b[:-2], k, b[-1]) if len(b) > 1 else (k,) if b else b
    pair = [s.array(a), s.array(b)]
    if s.integer(0, 9) == 9:
        pair[s.integer(0, 1)] = 1.5
    return tuple(pair), {}


def draw_inner(s: Source) -> tuple:
    k = s.choose(2, 3, 1, 0)
    a, b = s.shape(0, 3), s.shape(0, 2)
    return tuple(s.array((*shape[:-1], k) if shape else shape) for shape in (a, b)), {}


def draw_tensordot(s: Source) -> tuple:
    n = s.integer(0, 2)
    shared = s.shape(n, n, sides=(2, 3, 1))
    if s.integer(0, 1):
        a, b = (*s.shape(0, 2), *shared), (*shared, *s.shape(0, 2))
        return (s.array(a), s.array(b)), {} if n == 2 and s.integer(0, 1) else {"axes": n}
    places, arrays = [], []
    for _ in range(2):
        others = s.shape(0, 2)
        ndim = n + len(others)
        axes = s.order(ndim)[:n]
        free = iter(others)
        arrays.append(s.array(tuple(shared[axes.index(i)] if i in axes else next(free) for i in range(ndim))))
        places.append([i - ndim * s.integer(0, 1) for i in axes])
    return tuple(arrays), {"axes": tuple(axes[0] if n == 1 and s.integer(0, 1) else axes for axes in places)}


EINSUMS = (
    "ij,jk->ik",
    "ii->i",
    "ii",
    "ii->",
    "iij->ij",
    "iij->j",
    "nd,nn->d",
    "ij->",
    "ij->ji",
    "i,i",
    "i,i->i",
    "i,j",
    "ij,ij->i",
    "bij,bjk->bik",
    "ij,j,j->i",
    "ijk,kl->lij",
    "i,ij,j->",
    "...ij,...jk->...ik",
    "...i,...i",
    "i...->...",
    "...ii->...i",
    "b...i,ij->b...j",
    "ijk->kj",
    "iji->j",
    "ij,ji",
    "ab,cd->",
    "ij,jk,kl->il",
    "ii,ij->j",
    "a,b,c->cab",
    "...,...->...",
)


def draw_einsum(s: Source) -> tuple:
    if s.integer(0, 2):
        subscripts = s.choose(*EINSUMS)
    else:
        terms = ["".join(s.choose(*"ijkl") for _ in range(s.integer(0, 3))) for _ in range(s.integer(1, 3))]
        letters = sorted(set("".join(terms)))
        out = "".join(letters[i] for i in s.order(len(letters))[: s.integer(0, len(letters))])
        subscripts = ",".join(terms) + s.choose("->" + out, "")
    sizes = {letter: s.choose(2, 3, 1, 2, 3, 4, 0) for letter in "abcdijkln"}
    more = s.shape(0, 2, sides=(2, 1, 3))
    arrays = []
    for term in subscripts.split("->")[0].split(","):
        before, dots, after = term.partition("...")
        middle = tuple(s.choose(n, n, 1) for n in more[s.integer(0, len(more)) :]) if dots else ()
        arrays.append(s.array((*(sizes[i] for i in before), *middle, *(sizes[i] for i in after))))
    return tuple(arrays), {"subscripts": subscripts}


def no_fit(name: str) -> Refused:
    return refused(ValueError, rf"{name}.*\(2, 3\)", M, M)


op(
    "matmul",
    draw_matmul,
    [
        point(M, X, value=[14, 32], grads=([X, X], [5, 7, 9])),
        point(X, X, value=14, grads=(X, X)),
        point(np.ones((2, 0)), np.ones((0, 3)), value=np.zeros((2, 3)), grads=(np.zeros((2, 0)), np.zeros((0, 3)))),
    ],
    [
        refused(ValueError, r"matmul\(a: float64 \(2, 3\), b: float64 \(2, 3\)\)", M, M),
        refused((ValueError, TypeError), "matmul", M, 2.0),
    ],
)
for name, transposed in (("matmul_nt", (0, 1)), ("matmul_tn", (1, 0))):  # what the rules of matmul are made of
    op(
        name,
        functools.partial(draw_two_matrices, transposed=transposed),
        point([[2]], [[3]], value=[[6]], grads=([[3]], [[2]])),
        refused(ValueError, name, M, np.ones((5, 7))),
        fn=getattr(linear, name),
        ref=lambda a, b, transposed=transposed: (a.T if transposed[0] else a) @ (b.T if transposed[1] else b),
        numpy=None,
    )
op(
    "dot",
    draw_dot,
    [point(2, X, value=[2, 4, 6], grads=(6, [2, 2, 2])), point(X, X, value=14, grads=(X, X))],
    no_fit("matmul"),
)
op(
    "inner",
    draw_inner,
    [point(M, X, value=[14, 32], grads=([X, X], [5, 7, 9])), point(2, 3, value=6, grads=(3, 2))],
    refused(ValueError, r"(inner|tensordot).*\(2, 3\)", M, [1.0, 2.0]),
)
op(
    "outer",
    lambda s: ((s.array(s.shape(0, 2)), s.array(s.shape(0, 2))), {}),
    point([1, 2], X, value=[[1, 2, 3], [2, 4, 6]], grads=([6, 6], [3, 3, 3])),
    refused((ValueError, TypeError), "outer|multiply", M, STRINGS),
    ref=np.outer,
)
op(
    "tensordot",
    draw_tensordot,
    [point(M, M, value=91, grads=(M, M)), point(2, X, value=[2, 4, 6], grads=(6, [2, 2, 2]), axes=0)],
    [
        refused(ValueError, "tensordot: axes .*lengths", M, M, axes=1),
        refused(ValueError, "axes of a", M, M, axes=([2], [0])),
    ],
)
op(
    "einsum",
    draw_einsum,
    [
        point(TALL[:2], value=3, grads=(np.eye(2),), subscripts="ii->"),
        point([[1, 2], [3, 4]], value=[1, 4], grads=([[1, 0], [0, 2]],), g=[1, 2], subscripts="ii->i"),
        point([[1, 2], [3, 4]], value=5, grads=(np.eye(2),), subscripts="ii"),
        point(
            np.arange(8.0).reshape(2, 2, 2),
            value=[[0, 1], [6, 7]],
            subscripts="iij->ij",
            grads=([[[1, 2], [0, 0]], [[0, 0], [3, 4]]],),
            g=[[1, 2], [3, 4]],
        ),
        point(
            [[1, 2], [3, 4]],
            [[5, 6], [7, 8]],
            value=[29, 42],
            subscripts="nd,nn->d",
            grads=([[5, 10], [8, 16]], [[5, 0], [0, 11]]),
            g=[1, 2],
        ),
    ],
    [
        refused(ValueError, "einsum: subscripts 'ii->'.*(differ|length)", TALL, subscripts="ii->"),
        refused(ValueError, "einsum: subscripts.*operands", X, subscripts="i,i"),
        refused(TypeError, "einsum: subscripts: expected a string", X, subscripts=[0]),
        refused(ValueError, "einsum", X, X, subscripts="i,j->ijj"),
    ],
    fn=lambda *operands, subscripts: ops.einsum(subscripts, *operands),
    ref=lambda *operands, subscripts: np.einsum(subscripts, *operands),
    numpy=None,
    view=None,
)


def draw_sparse(s: Source) -> tuple:
    """Rows with any number of entries, now and then none."""
    rows, columns = s.choose(2, 3, 1, 4), s.choose(3, 2, 1, 5)
    picked = [np.flatnonzero(s.rng.random(columns) < 0.5) for _ in range(rows)]
    kind = s.choose(np.int32, np.int64)
    indices = np.concatenate(picked).astype(kind)
    indptr = np.cumsum([0, *map(len, picked)]).astype(kind)
    return (s.array(indices.shape), s.array((*s.shape(0, 2), columns))), {"indices": indices, "indptr": indptr}


def sparse_matmul(values: Any, x: Any, indices: Any, indptr: Any) -> Any:
    w = np.zeros((len(indptr) - 1, x.shape[-1]), np.result_type(values))
    np.add.at(w, (np.repeat(np.arange(len(w)), np.diff(indptr)), indices), values)
    return x @ w.T


ROWS = {"indices": np.array([1, 0]), "indptr": np.array([0, 1, 2, 2])}  # 3 × 2
op(
    "sparse_matmul",
    draw_sparse,
    [
        point([2, 3], [10, 1], value=[2, 30, 0], grads=([1, 20], [6, 2]), g=[1, 2, 5], **ROWS),
        point([2, 3], [[inf, 1]], value=[[2, inf, 0]], grads=([1, inf], [[3, 2]]), **ROWS),
        point([], [1, 2], value=[0], grads=([], [0, 0]), indices=np.zeros(0, int), indptr=np.array([0, 0])),
    ],
    [
        refused(TypeError, "sparse_matmul.*one dtype", np.ones(2, np.float32), [1.0, 2.0], **ROWS),
        refused(TypeError, "sparse_matmul.*float32 or float64", [1, 2], [1, 2], **ROWS),
        refused(TypeError, "sparse_matmul.*integers", [1.0], [1.0], indices=[0.0], indptr=[0, 1]),
        refused(ValueError, "sparse_matmul.*indices", [1.0, 2.0], [1.0], **ROWS),
        refused(ValueError, "sparse_matmul", [1.0, 2.0, 3.0], [1.0, 2.0], **ROWS),
        refused(ValueError, "sparse_matmul", [1.0], [1.0, 2.0], indices=[-1], indptr=[0, 1]),
        refused(ValueError, "sparse_matmul", [1.0, 2.0], [1.0, 2.0], indices=[0, 1], indptr=[0, 3, 2]),
    ],
    ref=sparse_matmul,
    half=False,
    device=False,  # the stand-in for CuPy has no sparse matrices
)


def matrices(s: Source, shape: tuple = ()) -> np.ndarray:
    """A stack of matrices far from singular."""
    n = s.choose(2, 3, 1, 4, 0)
    return s.array((*shape, n, n), -1, 1) + s.choose(-1, 1) * (n + 1) * np.eye(n)


def draw_solve(s: Source) -> tuple:
    stacks = s.shapes(2, sides=(2, 3, 1, 2, 0))
    a = matrices(s, stacks[0][-2:])
    n = a.shape[-1]
    return (a, s.array(s.choose((*stacks[1][-2:], n, s.choose(2, 1, 3)), (n,), (n, 2)))), {}


def draw_positive(s: Source) -> tuple:
    x = matrices(s, s.shape(0, 1))
    return (x @ np.swapaxes(x, -1, -2),), {}


def symmetric(x: Any) -> Any:
    return 0.5 * (x + ops.matrix_transpose(x))


EQUATIONS = {"rounding": 200, "half": False, "ties": False}
NOT_SQUARE, SINGULAR = np.ones((2, 3)), np.ones((2, 2))
LinAlgError = np.linalg.LinAlgError
op(
    "solve",
    draw_solve,
    point([[2, 0], [0, 4]], [2, 2], value=[1, 0.5], grads=([[-0.5, -0.25], [-0.25, -0.125]], [0.5, 0.25])),
    [
        refused(LinAlgError, r"solve\(a: float64 \(2, 2\), b: float64 \(2,\)\): Singular", SINGULAR, [1.0, 2.0]),
        refused(LinAlgError, "solve.*square", NOT_SQUARE, [1.0, 2.0]),
    ],
    **EQUATIONS,
)
op(
    "inv",
    lambda s: ((matrices(s, s.shape(0, 2)),), {}),
    point([[2, 0], [0, 4]], value=[[0.5, 0], [0, 0.25]], grads=(-np.outer([0.5, 0.25], [0.5, 0.25]),)),
    [refused(LinAlgError, "inv.*Singular", SINGULAR), refused(LinAlgError, "inv.*square", NOT_SQUARE)],
    **EQUATIONS,
)
op(
    "cholesky",
    draw_positive,
    point([[4, 2], [2, 5]], value=[[2, 0], [1, 2]], grads=([[0.25, 0], [0, 0]],), g=[[1, 0], [0, 0]]),
    refused(LinAlgError, "cholesky.*positive definite", SINGULAR - 1),
    fn=lambda x: ops.cholesky(symmetric(x)),
    numpy=None,
    ref=lambda x: references.cholesky((x + np.swapaxes(x, -1, -2)) / 2),
    **EQUATIONS,
)
op(
    "slogdet",
    lambda s: ((matrices(s, s.shape(0, 1)),), {}),
    point([[0, 2], [1, 0]], value=(-1, math.log(2)), grads=([[0, 1], [2, 0]],), g=[7, 2]),
    refused(LinAlgError, "slogdet.*square", NOT_SQUARE),
    **EQUATIONS,
)

ALIASES = {
    "abs": "absolute",
    "pow": "power",
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "concat": "concatenate",
    "permute_dims": "transpose",
}

# What PyTorch calls them: a second oracle, where it is installed. Keywords are given their names there, and keyword
# arguments that it takes in another form (a tuple of axes for prod, say) are not compared.
SAME = (
    "add subtract multiply divide negative positive square remainder sqrt reciprocal hypot exp exp2 expm1 log "
    "log2 log10 log1p logaddexp sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh "
    "absolute sign floor ceil trunc maximum minimum where sigmoid relu erf ravel matmul inner tile moveaxis "
    "cumsum cumprod softmax log_softmax logsumexp prod sum mean var std flip roll tril triu diagonal squeeze "
    "broadcast_to tensordot reshape"
)
TORCH = {name: name for name in SAME.split()} | {
    "power": "pow",
    "max": "amax",
    "min": "amin",
    "solve": "linalg.solve",
    "inv": "linalg.inv",
    "cholesky": "linalg.cholesky",
    "slogdet": "linalg.slogdet",
    "leaky_relu": "nn.functional.leaky_relu",
    "elu": "nn.functional.elu",
    "silu": "nn.functional.silu",
    "softplus": "nn.functional.softplus",
    "log_sigmoid": "nn.functional.logsigmoid",
}
TORCH_KEYWORDS = {
    "axis": "dim",
    "keepdims": "keepdim",
    "ddof": "correction",
    "slope": "negative_slope",
    "axis1": "dim1",
    "axis2": "dim2",
    "shift": "shifts",
} | {
    ("flip", "axis"): "dims",
    ("roll", "axis"): "dims",
    ("tensordot", "axes"): "dims",
    ("tril", "k"): "diagonal",
    ("triu", "k"): "diagonal",
    ("tile", "reps"): "dims",
    ("broadcast_to", "shape"): "size",
}
