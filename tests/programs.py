"""Random programs: run by the tape, and replayed in complex NumPy, which is the oracle.

A program is a list of instructions that each name new values (SSA). The slope of a replay along a direction u is
Im f(x + ihu) / h, exact to the last bits for a tiny h: no difference is taken. So the reference of each operation
branches on the real part, and what is detached, or computed in a ``no_grad`` block, is the real part.

Every operation is a line of Python (``source``), so that a program that fails can be printed, and pasted into a file.
"""

from __future__ import annotations

import random
import re
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import tinygrad_rnn as tg

H = 1e-30  # its square vanishes beside anything
LARGEST, ELEMENTS = 30.0, 64  # values are kept below, by a tanh; no value has more elements


@dataclass(frozen=True)
class Op:
    source: str
    reference: Callable  # complex-safe
    draw: Callable  # draw(program being made) -> (operands, keywords), or None if nothing suits
    margin: Callable | None  # how far the operands are from a kink
    run: Callable
    several: bool = False


@dataclass(frozen=True)
class Instruction:
    outs: tuple
    op: Op
    args: tuple
    keywords: dict
    no_grad: bool = False

    def __str__(self) -> str:
        expression = self.op.source.format(
            *[f"v{i}" for i in self.args], **{k: repr(v) for k, v in self.keywords.items()}
        )
        names = ", ".join(f"v{i}" for i in self.outs) + ("," if self.op.several and len(self.outs) == 1 else "")
        return ("with tg.no_grad(): " if self.no_grad else "") + f"{names} = {expression}"


@dataclass(frozen=True)
class Program:
    seed: int
    instructions: list = field(default_factory=list)
    outputs: dict = field(default_factory=dict)  # id -> cotangent
    watched: tuple = ()  # values in the middle whose gradients are wanted, too

    def run(self) -> dict:
        """The values, computed by the tape."""
        values: dict[int, Any] = {}
        for step in self.instructions:
            operands = [values[i] for i in step.args]
            if step.no_grad:
                with tg.no_grad():
                    out = step.op.run(*operands, **step.keywords)
            else:
                out = step.op.run(*operands, **step.keywords)
            values.update(zip(step.outs, out if step.op.several else (out,), strict=True))
        return values

    def replay(self, directions: dict) -> dict:
        """The values, computed by complex NumPy, with each value in directions moved along its own, by ih."""
        values: dict[int, Any] = {}
        for step in self.instructions:
            out = step.op.reference(*[values[i] for i in step.args], **step.keywords)
            for i, value in zip(step.outs, out if step.op.several else (out,), strict=True):
                value = value.real if step.no_grad else value
                values[i] = value + 1j * H * directions[i] if i in directions else value
        return values

    def cut(self, k: int, value: Any) -> Program:
        """The program with a leaf in place of instruction k."""
        leaf = Instruction(self.instructions[k].outs, LEAF, (), {"value": value})
        watched = tuple(i for i in self.watched if i not in leaf.outs)
        return replace(self, instructions=[*self.instructions[:k], leaf, *self.instructions[k + 1 :]], watched=watched)

    @property
    def leaves(self) -> list[int]:
        return [step.outs[0] for step in self.instructions if step.op is LEAF]

    def without(self, k: int) -> Program:
        """The program without instruction k, and without all that depends on it."""
        gone, kept = set(self.instructions[k].outs), self.instructions[:k]
        for step in self.instructions[k + 1 :]:
            if gone.isdisjoint(step.args):
                kept.append(step)
            else:
                gone.update(step.outs)
        outputs = {i: g for i, g in self.outputs.items() if i not in gone}
        return replace(
            self, instructions=kept, outputs=outputs, watched=tuple(i for i in self.watched if i not in gone)
        )

    def __str__(self) -> str:
        lines = [
            "import numpy as np",
            "from numpy import array",
            "import tinygrad_rnn as tg",
            "",
            *map(str, self.instructions),
        ]
        total = " + ".join(f"(v{i} * {g!r}).sum()" for i, g in self.outputs.items())
        wanted = ", ".join(f"v{i}" for i in (*self.leaves, *self.watched))
        return "\n".join([*lines, f"total = {total}", f"print(tg.gradients(total, [{wanted}]))"])


# Does it agree with the oracle? ---------------------------------------------------------------------------------------


def mismatch(program: Program) -> str | None:
    """What the tape gets wrong, in words; None if nothing."""
    try:
        return _mismatch(program)
    except Exception:  # an error is a mismatch, too
        return traceback.format_exc()


def _mismatch(program: Program) -> str | None:
    style, rng = random.Random(program.seed), np.random.default_rng(program.seed)
    values = program.run()
    for i in program.watched:  # a constant has no gradient
        if not values[i].requires_grad:
            program = replace(program, watched=tuple(j for j in program.watched if j != i))
    wanted = [*program.leaves, *program.watched]
    xs, n = [values[i] for i in wanted], len(program.leaves)
    outputs = [(values[i], g) for i, g in program.outputs.items() if getattr(values[i], "requires_grad", False)]
    total = None
    if not outputs:
        gs = [np.zeros(x.shape) for x in xs]
    elif style.random() < 0.5:  # one walk from the sum of everything
        total = sum(((y * g).sum() for y, g in outputs[1:]), start=(outputs[0][0] * outputs[0][1]).sum())
        gs = [g.data for g in tg.gradients(total, xs, retain_graph=True)]
        total.backward(retain_graph=True)
    else:  # a walk from each output, which adds up
        gs = [np.zeros(x.shape) for x in xs]
        for y, cotangent in outputs:
            gs = [g + d.data for g, d in zip(gs, tg.gradients(y, xs, cotangent, retain_graph=True))]
            y.backward(cotangent, retain_graph=True)
    for i, x, g in zip(wanted, xs, gs):
        if g.shape != x.shape or g.dtype != x.dtype:
            return f"the gradient of v{i} is {g.dtype} {g.shape}, the value {x.dtype} {x.shape}"
        if i in program.leaves:
            g_leaf = 0 if x.grad is None else x.grad.data
            if np.any(abs(g_leaf - g) > 1e-12 * (1 + abs(g))):
                return f"backward gives v{i}.grad = {g_leaf}, gradients() gives {g}"
    if total is not None and style.random() < 0.2 and (message := _second_order(total, xs[:n], gs[:n], rng)):
        return message
    for _ in range(2):
        directions = {i: rng.standard_normal(x.shape) for i, x in zip(wanted, xs)}
        replayed = program.replay(directions)
        slope = sum(float((replayed[i].imag * g).sum()) for i, g in program.outputs.items()) / H
        parts = [float((g * directions[i]).sum()) for i, g in zip(wanted, gs)]
        scale = 1 + sum(float(abs(g * directions[i]).sum()) for i, g in zip(wanted, gs))
        if not abs(slope - sum(parts)) <= 1e-10 * max(scale, abs(slope)):
            return f"the slope is {slope}, but the gradients give {sum(parts)}, of {dict(zip(wanted, parts))}"
    for i, value in values.items():
        data, right = getattr(value, "data", value), replayed[i].real
        if np.shape(data) != np.shape(right) or not (abs(data - right) <= 1e-10 * (1 + abs(right))).all():
            return f"v{i} is {data}, not {right}"
    if total is not None:
        total.backward()
        try:
            total.backward()
        except RuntimeError:
            return None
        return "a tape that was freed could be walked again"
    return None


def _second_order(total: Any, xs: list, gs: list, rng: Any) -> str | None:
    """The rules on tensors give the same gradient as on arrays; and second derivatives are symmetric."""
    recorded = tg.gradients(total, xs, create_graph=True)
    for a, b in zip(recorded, gs):
        if np.any(abs(a.data - b) > 1e-12 * (1 + abs(b))):
            return f"with create_graph the gradient is {a}, not {b}"
    u, v = ([rng.standard_normal(x.shape) for x in xs] for _ in range(2))

    def product(u: list) -> list:
        along = sum((g * d).sum() for g, d in zip(recorded, u))
        if not along.requires_grad:
            return [np.zeros(x.shape) for x in xs]
        return [h.data for h in tg.gradients(along, xs, retain_graph=True)]

    uHv = [float((h * d).sum()) for h, d in zip(product(v), u)]
    vHu = [float((h * d).sum()) for h, d in zip(product(u), v)]
    if not abs(sum(uHv) - sum(vHu)) <= 1e-9 * (1 + sum(map(abs, uHv)) + sum(map(abs, vHu))):
        return f"the second derivative is not symmetric: {sum(uHv)}, {sum(vHu)}"
    return None


def shrunk(program: Program, fails: Callable = mismatch) -> Program:
    """A program that fails, too, and fails no more if any instruction is left out, or a leaf put in its place."""
    smaller = program
    while smaller is not None:
        program = smaller
        steps, values = program.instructions, program.replay({})
        tries = [program.without(k) for k in reversed(range(len(steps)))]
        tries += [program.cut(k, values[s.outs[0]].real) for k, s in enumerate(steps) if s.args and not s.op.several]
        tries += [
            replace(program, outputs={j: g for j, g in program.outputs.items() if j != i}) for i in program.outputs
        ]
        tries += [replace(program, watched=())] if program.watched else []
        smaller = next((p for p in tries if p.outputs and p.leaves and fails(p)), None)
    return program


# How programs are made ------------------------------------------------------------------------------------------------


class Maker:
    """A program in the making, with its values so far."""

    def __init__(self, seed: int):
        self.r = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.program = Program(seed)
        self.values: dict[int, np.ndarray] = {}
        self.uses: dict[int, int] = {}
        self.margin = np.inf
        self.hub: int | None = None

    def add(self, op: Op, args: tuple, keywords: dict, no_grad: bool = False) -> bool:
        """Add an instruction, if it can be computed, and give its values names."""
        if None in args:
            return False
        operands = [self.values[i] for i in args]
        try:
            out = op.reference(*operands, **keywords)
            outs = [np.asarray(x) for x in (out if op.several else (out,))]
            margin = op.margin(*operands, **keywords) if op.margin else np.inf
        except (ValueError, IndexError, RuntimeWarning):
            return False
        if not outs or any(x.size > ELEMENTS or not np.isfinite(x).all() for x in outs):
            return False
        if margin < 1e-4 and self.r.random() < 0.9:  # kinks are met, but not in every other program
            return False
        self.margin = min(self.margin, margin)
        names = tuple(range(len(self.values), len(self.values) + len(outs)))
        self.program.instructions.append(Instruction(names, op, args, keywords, no_grad))
        self.values.update(zip(names, outs))
        for i in args:
            self.uses[i] = self.uses.get(i, 0) + 1
        for i, x in zip(names, outs):
            if x.size and abs(x).max() > LARGEST:
                self.add(TANH, (i,), {})
        return True

    def leaf(self, *shape: int) -> int:
        value = self.rng.uniform(-2, 2, shape)
        kind = LEAF if self.r.random() < 0.75 else CONSTANT if self.r.random() < 0.5 else ARRAY
        self.add(kind, (), {"value": value})
        return len(self.values) - 1

    def pick(self, suits: Callable | None = None) -> int | None:
        """A value; rather a late one, and rather the hub, if there is one."""
        for _ in range(5):
            n = len(self.values)
            i = self.r.randrange(0 if self.r.random() < 0.4 else max(0, n - 6), n)
            i = self.hub if self.hub is not None and self.r.random() < 0.5 else i
            if suits is None or suits(self.values[i]):
                return i
        return None

    def __getattr__(self, name: str) -> Any:  # randint, choice, random ...
        return getattr(self.r, name)


def make(seed: int, length: int = 20) -> tuple[Program, float]:
    """A random program, and how far its values are from a kink."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what NumPy warns of, is not taken
        return _make(Maker(seed), length)


def _make(m: Maker, length: int) -> tuple[Program, float]:
    dims = [1, 2, 3, 4] if m.random() < 0.95 else [0, 1, 2, 3]
    m.add(LEAF, (), {"value": m.rng.uniform(-2, 2, [m.choice(dims) for _ in range(m.randint(0, 3))])})
    for _ in range(m.randint(1, 2)):
        m.leaf(*[m.choice(dims) for _ in range(m.randint(0, 3))])
    if m.random() < 0.15:
        m.hub = m.randrange(len(m.values))
    quiet = m.randint(3, length) if m.random() < 0.2 else None  # where a no_grad block begins
    while sum(bool(step.args) for step in m.program.instructions) < length:
        (group,) = m.r.choices(GROUPS, WEIGHTS)
        op = m.choice(group)
        try:
            drawn = op.draw(m)
        except (IndexError, ValueError):  # no axis to choose from, say
            continue
        if drawn is not None:
            position = len(m.program.instructions)
            m.add(op, *drawn, no_grad=quiet is not None and quiet <= position < quiet + 2)
    unused = [i for i in m.values if i not in m.uses]
    outputs = {*unused, *m.r.sample(range(len(m.values)), 2)}
    m.program.outputs.update((i, m.rng.standard_normal(m.values[i].shape)) for i in sorted(outputs))
    middle = [
        i
        for step in m.program.instructions
        if step.op is not LEAF and not step.no_grad
        for i in step.outs
        if i in m.uses
    ]
    watched = m.r.sample(middle, min(2, len(middle)))
    constants = {i for i, y in m.program.run().items() if not getattr(y, "requires_grad", False)} if watched else ()
    return replace(m.program, watched=tuple(i for i in watched if i not in constants)), m.margin


# The operations -------------------------------------------------------------------------------------------------------

GROUPS: list[list[Op]] = []
WEIGHTS: list[float] = []


def compiled(source: str) -> Callable:
    """The function that a source with {0}, {1}, {axis} stands for."""
    names = dict.fromkeys(re.findall(r"\{(\w+)\}", source))
    arguments = [f"_{n}" for n in names if n.isdigit()] + [n for n in names if not n.isdigit()]
    body = re.sub(r"\{(\w+)\}", lambda match: f"_{match[1]}" if match[1].isdigit() else match[1], source)
    return eval(f"lambda {', '.join(arguments)}: {body}", {"np": np, "tg": tg, "array": np.array})


def op(
    source: str,
    reference: Callable,
    draw: Callable | None = None,
    margin: Callable | None = None,
    several: bool = False,
) -> Op:
    new = Op(source, reference, draw, margin, compiled(source), several)
    if draw is not None:
        GROUPS[-1].append(new)
    return new


def group(weight: float) -> None:
    GROUPS.append([])
    WEIGHTS.append(weight)


LEAF = op("tg.tensor({value}, requires_grad=True)", lambda value: value)
CONSTANT = op("tg.tensor({value})", lambda value: value)
ARRAY = op("{value}", lambda value: value)


# One operand


def one(suits: Callable | None = None, **draws: Callable) -> Callable:
    """Draw an operand that suits, and keywords (each by a function of the maker and the operand's value)."""

    def draw(m: Maker) -> tuple | None:
        i = m.pick(suits)
        if i is None:
            return None
        return (i,), {name: d(m, m.values[i]) for name, d in draws.items()}

    return draw


def within(low: float, high: float) -> Callable:
    return lambda x: x.size and x.min() > low and x.max() < high


def to_zero(x: Any) -> float:
    return abs(x).min(initial=np.inf)


def nonzero(x: Any) -> bool:
    return x.size and abs(x).min() > 0.2


def larger(a: Any, b: Any) -> Any:
    return np.where(a.real > b.real, a, b)


def smaller(a: Any, b: Any) -> Any:
    return np.where(a.real < b.real, a, b)


positive, moderate = within(0.1, 50), within(-4, 4)

group(28)
TANH = op("tg.tanh({0})", np.tanh, one())
op("np.sin({0})", np.sin, one())
op("tg.cos({0})", np.cos, one())
op("tg.exp({0})", np.exp, one(moderate))
op("tg.expm1({0})", np.expm1, one(moderate))
op("tg.sigmoid({0})", lambda x: 1 / (1 + np.exp(-x)), one())
op("tg.relu({0})", lambda x: np.where(x.real > 0, x, 0), one(), to_zero)
op("tg.leaky_relu({0}, 0.2)", lambda x: np.where(x.real > 0, x, 0.2 * x), one(), to_zero)
op("tg.elu({0})", lambda x: np.where(x.real > 0, x, np.expm1(x)), one(), to_zero)
op("tg.softplus({0})", lambda x: np.log(1 + np.exp(x)), one())
op("tg.log_sigmoid({0})", lambda x: -np.log(1 + np.exp(-x)), one())
op("tg.silu({0})", lambda x: x / (1 + np.exp(-x)), one())
op("abs({0})", lambda x: np.where(x.real > 0, x, -x), one(), to_zero)
op("tg.square({0})", lambda x: x * x, one())
op("{0} ** 2", lambda x: x * x, one())
op("{0} ** 3.0", lambda x: x * x * x, one(moderate))
op("tg.sqrt({0})", np.sqrt, one(positive))
op("{0} ** 0.5", np.sqrt, one(positive))
op("tg.log({0})", np.log, one(positive))
op("tg.log1p({0})", np.log1p, one(within(-0.7, 50)))
op("tg.reciprocal({0})", lambda x: 1 / x, one(nonzero))
op("1.5 / {0}", lambda x: 1.5 / x, one(nonzero))
op("2 ** {0}", lambda x: np.exp(x * np.log(2)), one(moderate))
op("tg.arctan({0})", np.arctan, one())
op("tg.arcsinh({0})", np.arcsinh, one())
op("tg.sinh({0})", np.sinh, one(moderate))
op("tg.cosh({0})", np.cosh, one(moderate))
op("-{0}", lambda x: -x, one())
op("1 - {0}", lambda x: 1 - x, one())
op("np.float64(0.7) * {0}", lambda x: 0.7 * x, one())
op("tg.positive({0})", lambda x: +x, one())
op("tg.clip({0}, -1.1, 0.9)", lambda x: np.where(x.real < -1.1, -1.1, np.where(x.real > 0.9, 0.9, x)), one(),
   lambda x: min(to_zero(x + 1.1), to_zero(x - 0.9)))  # fmt: skip


# Two operands, which broadcast


def two(suits: Callable | None = None, first: Callable | None = None) -> Callable:
    def draw(m: Maker) -> tuple | None:
        a = m.pick(first)
        if a is None:
            return None
        shape = m.values[a].shape

        def fits(x: Any) -> bool:
            try:
                size = np.broadcast(m.values[a], x).size
            except ValueError:
                return False
            return size <= ELEMENTS and (suits is None or suits(x))

        b = a if m.random() < 0.05 and fits(m.values[a]) else m.pick(fits)
        if b is None and suits is None:  # a new one, that differs from a's shape in axes of length 1, or has fewer
            b = m.leaf(*[n if m.random() < 0.6 else 1 for n in shape][m.randint(0, len(shape)) :])
        if b is None:
            return None
        return ((b, a) if first is None and suits is None and m.random() < 0.5 else (a, b)), {}

    return draw


def apart(a: Any, b: Any) -> float:
    return to_zero(a - b)


def arctan2(y: Any, x: Any) -> Any:
    flat = abs(y.real) < abs(x.real)
    angle = np.arctan(np.where(flat, y, x) / np.where(flat, x, y))
    return np.where(
        flat, angle + np.where(x.real < 0, np.copysign(np.pi, y.real), 0), np.copysign(np.pi / 2, y.real) - angle
    )


def logaddexp(a: Any, b: Any) -> Any:
    top = np.maximum(a.real, b.real)
    return top + np.log(np.exp(a - top) + np.exp(b - top))


def remainder(a: Any, b: Any) -> Any:
    return a - b * np.floor(a.real / b.real)


group(24)
op("{0} + {1}", np.add, two())
op("np.add({0}, {1})", np.add, two())
op("{0} - {1}", np.subtract, two())
op("{0} * {1}", np.multiply, two())
op("np.multiply({0}, {1})", np.multiply, two())
op("{0} / {1}", np.divide, two(nonzero))
op("tg.maximum({0}, {1})", larger, two(), apart)
op("np.minimum({0}, {1})", smaller, two(), apart)
op("tg.hypot({0}, {1})", lambda a, b: np.sqrt(a * a + b * b), two(nonzero))
op("tg.arctan2({0}, {1})", arctan2, two(nonzero), lambda y, x: to_zero(y))
op("tg.power({0}, {1})", lambda a, b: np.exp(b * np.log(a)), two(moderate, first=within(0.3, 4)))
op("tg.logaddexp({0}, {1})", logaddexp, two())
op("{0} % {1}", remainder, two(nonzero), lambda a, b: to_zero(a / b - np.round(a / b)))


# Products of matrices


def product(m: Maker) -> tuple | None:
    a = m.pick(lambda x: x.ndim)
    if a is None:
        return None
    k, batch = m.values[a].shape[-1], m.values[a].shape[:-2]
    b = m.pick(lambda x: x.ndim and x.shape[-2:][0] == k)
    if b is None or m.random() < 0.5:
        shapes = [
            (k,),
            (k, m.randint(1, 3)),
            (k, 1),
            (*batch, k, 2),
            (*[1] * len(batch), k, 2),
            (2, *[1] * len(batch), k, 1),
        ]
        b = m.leaf(*m.choice(shapes))
    return (a, b), {}


def product_with_left(m: Maker) -> tuple | None:
    b = m.pick(lambda x: x.ndim)
    if b is None:
        return None
    k = m.values[b].shape[-2:][0]
    return (m.leaf(*m.choice([(k,), (2, k), (1, k), (2, 1, k)])), b), {}


def square_of(m: Maker) -> tuple | None:
    i = m.pick(lambda x: x.ndim == 2 and x.shape[0] == x.shape[1])
    return None if i is None else ((i, i), {})


def matrices(m: Maker) -> tuple | None:
    a = m.pick(lambda x: x.ndim == 2)
    return None if a is None else ((a, m.leaf(m.values[a].shape[1], m.randint(1, 3))), {})


group(8)
op("{0} @ {1}", np.matmul, product)
op("{0} @ {1}", np.matmul, product)
op("tg.matmul({0}, {1})", np.matmul, product_with_left)
op("{0} @ {1}", np.matmul, square_of)
op("tg.dot({0}, {1})", np.dot, matrices)
op("tg.einsum('ij,jk->ki', {0}, {1})", lambda a, b: (a @ b).T, matrices)
op("tg.tensordot({0}, {1}, axes=1)", lambda a, b: np.tensordot(a, b, 1), matrices)
op("tg.outer({0}, {1})", np.outer, two())
op("tg.einsum('ii->i', {0})", np.diagonal, one(lambda x: x.ndim == 2 and x.shape[0] == x.shape[1]))


# Reductions


def axis_of(m: Maker, x: Any) -> int:
    return m.randrange(-x.ndim, x.ndim)


def axes_of(m: Maker, x: Any) -> Any:
    kind = m.random()
    if kind < 0.3 or x.ndim == 0:
        return None if kind < 0.27 else ()
    if kind < 0.75:
        return axis_of(m, x)
    return tuple(k - x.ndim if m.random() < 0.4 else k for k in m.r.sample(range(x.ndim), m.randint(1, x.ndim)))


def coin(m: Maker, x: Any) -> bool:
    return m.random() < 0.4


def some_axis(m: Maker, x: Any) -> int | None:
    return None if m.random() < 0.3 else axis_of(m, x)


def best(sign: int) -> Callable:
    def reference(x: Any, axis: Any, keepdims: bool) -> Any:
        """Where it is the largest by its real part; a tie is dropped by its margin."""
        wins = sign * x.real == (sign * x.real).max(axis=axis, keepdims=True)
        return np.sum(np.where(wins, x, 0), axis, keepdims=keepdims) / np.sum(wins, axis, keepdims=keepdims)

    return reference


def gap(sign: int) -> Callable:
    def margin(x: Any, axis: Any, keepdims: bool) -> float:
        """How far the best is from the second best."""
        top = (sign * x).max(axis=axis, keepdims=True)
        below = np.where(sign * x < top, top - sign * x, np.inf).min(initial=np.inf)
        ties = np.sum(sign * x == top, axis=axis).max(initial=0) > 1
        return 0.0 if ties else below

    return margin


def logsumexp(x: Any, axis: Any, keepdims: bool) -> Any:
    top = x.real.max(axis=axis, keepdims=True)
    out = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return out if keepdims else out.reshape(np.sum(x, axis=axis).shape)


def variance(x: Any, axis: Any, keepdims: bool) -> Any:
    d = x - np.mean(x, axis, keepdims=True)
    return np.mean(d * d, axis, keepdims=keepdims)


reduced = {"axis": axes_of, "keepdims": coin}
group(13)
op("{0}.sum(axis={axis}, keepdims={keepdims})", np.sum, one(lambda x: x.ndim, **reduced))
op("tg.sum({0}, axis={axis}, keepdims={keepdims})", np.sum, one(**reduced))
op("np.mean({0}, axis={axis}, keepdims={keepdims})", np.mean, one(**reduced))
op("tg.max({0}, axis={axis}, keepdims={keepdims})", best(1), one(**reduced), gap(1))
op("tg.min({0}, axis={axis}, keepdims={keepdims})", best(-1), one(**reduced), gap(-1))
op("tg.prod({0}, axis={axis}, keepdims={keepdims})", np.prod, one(within(-2, 2), **reduced))
op("tg.var({0}, axis={axis}, keepdims={keepdims})", variance, one(**reduced))
op("tg.std({0}, axis={axis}, keepdims={keepdims})", lambda x, axis, keepdims: np.sqrt(variance(x, axis, keepdims)),
   one(**reduced), lambda x, axis, keepdims: 0.01 * np.std(x, axis).min(initial=np.inf))  # fmt: skip
op("tg.logsumexp({0}, axis={axis}, keepdims={keepdims})", logsumexp, one(**reduced))
op("tg.softmax({0}, axis={axis})", lambda x, axis: np.exp(x - logsumexp(x, axis, True)), one(axis=axis_of))
op("tg.log_softmax({0}, axis={axis})", lambda x, axis: x - logsumexp(x, axis, True), one(axis=axis_of))
op("tg.norm({0}, axis={axis})", lambda x, axis: np.sqrt(np.sum(x * x, axis)), one(axis=some_axis),
   lambda x, axis: 0.01 * np.sqrt(np.sum(x * x, axis)).min(initial=np.inf))  # fmt: skip


# Shapes


def new_shape(m: Maker, x: Any) -> tuple:
    n, shape = x.size, []
    while n > 1 and len(shape) < 3:
        d = m.choice([d for d in (1, 2, 3, 4, 8, n) if n % d == 0])
        shape.append(d)
        n //= d
    shape = [*shape, n] if n != 1 or m.random() < 0.3 else shape
    if shape and x.size and m.random() < 0.4:
        shape[m.randrange(len(shape))] = -1
    return tuple(shape)


def order(m: Maker, x: Any) -> tuple:
    return tuple(k - x.ndim if m.random() < 0.3 else k for k in m.r.sample(range(x.ndim), x.ndim))


def wider(m: Maker, x: Any) -> tuple:
    shape = [m.choice([1, 2, 3]) if n == 1 else n for n in x.shape]
    return tuple([m.randint(1, 3)] * m.randint(0, 1) + shape)


def widths(m: Maker, x: Any) -> tuple:
    return tuple((m.randint(0, 2), m.randint(0, 2)) for _ in x.shape)


def pairs(names: str, *draws: Callable, suits: Callable | None = None) -> dict:
    return dict(zip(names.split(), draws))


def matrix(x: Any) -> bool:
    return x.ndim >= 2


group(15)
op("{0}.reshape({shape})", lambda x, shape: x.reshape(shape), one(lambda x: x.ndim, shape=new_shape))
op("tg.reshape({0}, {shape})", lambda x, shape: x.reshape(shape), one(shape=new_shape))
op("np.transpose({0}, {axes})", np.transpose, one(lambda x: x.ndim, axes=order))
op("{0}.T", lambda x: x.T, one(matrix))
op("{0}.mT", lambda x: np.swapaxes(x, -1, -2), one(matrix))
op("tg.swapaxes({0}, {a}, {b})", lambda x, a, b: np.swapaxes(x, a, b), one(matrix, a=axis_of, b=axis_of))
op("tg.moveaxis({0}, {a}, {b})", lambda x, a, b: np.moveaxis(x, a, b), one(matrix, a=axis_of, b=axis_of))
op(
    "tg.expand_dims({0}, {axis})",
    np.expand_dims,
    one(lambda x: x.ndim < 3, axis=lambda m, x: m.randint(-x.ndim - 1, x.ndim)),
)
op("tg.squeeze({0})", np.squeeze, one(lambda x: 1 in x.shape))
op("tg.ravel({0})", np.ravel, one())
op("tg.broadcast_to({0}, {shape})", np.broadcast_to, one(shape=wider))
op("tg.flip({0}, {axis})", np.flip, one(axis=some_axis))
op("tg.roll({0}, {shift}, {axis})", np.roll, one(shift=lambda m, x: m.randint(-3, 3), axis=some_axis))
op(
    "tg.tile({0}, {reps})",
    np.tile,
    one(lambda x: x.ndim, reps=lambda m, x: tuple(m.randint(1, 2) for _ in range(m.randint(1, 3)))),
)
op("tg.repeat({0}, {repeats}, {axis})", np.repeat, one(repeats=lambda m, x: m.randint(1, 3), axis=some_axis))
op("tg.repeat({0}, {repeats}, axis=0)", lambda x, repeats: np.repeat(x, repeats, 0),
   one(lambda x: x.ndim, repeats=lambda m, x: [m.randint(0, 2) for _ in range(len(x))]))  # fmt: skip
op("tg.pad({0}, {widths})", lambda x, widths: np.pad(x, widths), one(lambda x: x.ndim, widths=widths))
op("tg.pad({0}, 1, 'reflect')", lambda x: np.pad(x, 1, "reflect"), one(lambda x: x.ndim and min(x.shape) > 1))
op("tg.tril({0}, {k})", np.tril, one(matrix, k=lambda m, x: m.randint(-1, 1)))
op("tg.triu({0}, {k})", np.triu, one(matrix, k=lambda m, x: m.randint(-1, 1)))
op("tg.diagonal({0}, {offset})", np.diagonal, one(matrix, offset=lambda m, x: m.randint(-1, 1)))
op("tg.trace({0}, {offset})", np.trace, one(matrix, offset=lambda m, x: m.randint(-1, 1)))


# Indexing, joining, where, cumulating, detaching


def basic_index(m: Maker, x: Any) -> tuple:
    def part(n: int) -> Any:
        kind = m.random()
        if kind < 0.3 and n:
            return m.randrange(-n, n)
        if kind < 0.6:
            return slice(None)
        return slice(m.choice([None, 0, 1, -2]), m.choice([None, n, -1, 2]), m.choice([None, 1, 2, -1, -2]))

    parts = [part(n) for n in x.shape][: m.randint(0, x.ndim)]
    if m.random() < 0.2:
        parts.insert(m.randint(0, len(parts)), None)
    if m.random() < 0.2:
        parts.append(...)
    return tuple(parts)


def places(m: Maker, n: int, shape: Any = None) -> np.ndarray:
    """Indices into an axis; some are named twice, some are negative."""
    return m.rng.integers(-n, n, m.choice([3, 4, (2, 2), (1,)]) if shape is None else shape)


def any_index(m: Maker, x: Any) -> Any:
    kind = m.random()
    if x.ndim == 0 or kind < 0.4:
        return basic_index(m, x)
    if kind < 0.55:
        return places(m, x.shape[0])
    if kind < 0.65:
        return places(m, x.shape[0], 3).tolist()
    if kind < 0.75:
        return m.rng.random(x.shape) < 0.6
    if kind < 0.85 and x.ndim > 1:
        return places(m, x.shape[0], 3), places(m, x.shape[1], m.choice([3, (2, 1), ()]))
    return (*[slice(None)] * (x.ndim - 1), places(m, x.shape[-1]))


def joined(m: Maker) -> tuple | None:
    a = m.pick(lambda x: x.ndim)
    if a is None:
        return None
    axis = axis_of(m, m.values[a])

    def fits(x: Any) -> bool:
        y = m.values[a]
        return x.ndim == y.ndim and all(n == k or i == axis % y.ndim for i, (n, k) in enumerate(zip(x.shape, y.shape)))

    return (a, m.pick(fits), a if m.random() < 0.3 else m.pick(fits)), {"axis": axis}


def stacked(m: Maker) -> tuple:
    a = m.pick()
    shape = m.values[a].shape
    return (a, m.pick(lambda x: x.shape == shape)), {"axis": m.randint(-len(shape) - 1, len(shape))}


def masked(m: Maker) -> tuple | None:
    drawn = two()(m)
    if drawn is None:
        return None
    (a, b), _ = drawn
    return (a, b), {"mask": m.rng.random(np.broadcast(m.values[a], m.values[b]).shape) < 0.5}


def into(index: Callable) -> Callable:
    def draw(m: Maker) -> tuple | None:
        a = m.pick(lambda x: x.ndim)
        if a is None:
            return None
        i = index(m, m.values[a])
        shape = m.values[a][i].shape
        b = m.leaf(*shape[m.randint(0, len(shape)) :]) if m.random() < 0.7 else m.pick(lambda x: x.ndim == 0)
        return None if b is None else ((a, b), {"index": i})

    return draw


def set_at(x: Any, v: Any, index: Any) -> Any:
    out = x.astype(np.result_type(x, v))
    out[index] = v
    return out


def add_at(x: Any, v: Any, index: Any) -> Any:
    out = x.astype(np.result_type(x, v))
    np.add.at(out, index, np.broadcast_to(v, out[index].shape))  # NumPy 2.4 broadcasts it wrongly itself
    return out


def parts(x: Any, n: int, axis: int) -> tuple:
    return tuple(np.split(x, n, axis))


def rows(x: Any, axis: int) -> tuple:
    return tuple(np.moveaxis(x, axis, 0))


def divisor(m: Maker, x: Any) -> int:
    return m.choice([d for d in (1, 2, 3) if x.shape[-1] % d == 0])


def along(m: Maker, x: Any) -> np.ndarray:
    return m.rng.integers(0, x.shape[-1], (*x.shape[:-1], 2))


group(12)
for _ in range(3):
    op("{0}[{index}]", lambda x, index: x[index], one(index=any_index))
op("tg.take({0}, {places}, axis=0)", lambda x, places: np.take(x, places, 0),
   one(lambda x: x.ndim, places=lambda m, x: places(m, x.shape[0])))  # fmt: skip
op(
    "tg.take_along_axis({0}, {places})",
    lambda x, places: np.take_along_axis(x, places, -1),
    one(lambda x: x.ndim, places=along),
)
op("tg.concatenate([{0}, {1}, {2}], axis={axis})", lambda a, b, c, axis: np.concatenate([a, b, c], axis), joined)
op("np.stack([{0}, {1}], axis={axis})", lambda a, b, axis: np.stack([a, b], axis), stacked)
op("tg.split({0}, {n}, axis=-1)", lambda x, n: parts(x, n, -1), one(lambda x: x.ndim, n=divisor), several=True)
op(
    "tg.split({0}, [1], axis={axis})",
    lambda x, axis: tuple(np.split(x, [1], axis)),
    one(lambda x: x.ndim, axis=axis_of),
    several=True,
)
op("tg.unstack({0}, axis={axis})", rows, one(lambda x: x.ndim and 0 not in x.shape, axis=axis_of), several=True)
op("tuple({0})", lambda x: tuple(x), one(lambda x: x.ndim > 1 and len(x)), several=True)
op("tg.where({mask}, {0}, {1})", lambda a, b, mask: np.where(mask, a, b), masked)
op("tg.at({0})[{index}].set({1})", set_at, into(basic_index))
op("tg.at({0})[{index}].add({1})", add_at, into(any_index))
op("tg.cumsum({0}, axis={axis})", np.cumsum, one(axis=some_axis))
op("tg.cumprod({0}, axis={axis})", np.cumprod, one(within(-2, 2), axis=some_axis))
op("(tg.tensor(0.0) + {0}).detach()", lambda x: x.real, one())  # of arrays, too
