"""NumPy's source of a loop: plain statements, which write into arrays made before. Within the loop there is no other
work than theirs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .graph import OPERATIONS, Value
from .loops import AFTER, ALWAYS, BEFORE, TOTAL, WITHIN, Loop, base

INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "matmul": "@"}


class NumPySource:
    """The statements of a loop, part by part; ``functions`` are those that they call beside NumPy's."""

    def __init__(self, loop: Loop, name: str):
        self.loop, self.name = loop, name
        self.lines: list[list[str]] = [[] for _ in range(5)]
        self.functions: dict[str, Callable] = {}
        self.write(ALWAYS, BEFORE)
        self.write_loop()
        self.write(AFTER, TOTAL)

    def write(self, *parts: int) -> None:
        for v in self.loop.values:
            if self.loop.parts[v] in parts and v not in self.loop.given and v not in self.loop.carried:
                self.lines[self.loop.parts[v]] += self.computed(v)

    def write_loop(self) -> None:
        self.write(WITHIN)

    def text(self, arguments: list[str], results: Iterable[str], totals: Iterable[str] = ()) -> str:
        """The source of a function, which returns results, the last of what is carried over, and totals."""
        returned = [*results, *self.loop.ends(), *totals]
        parts = [self.lines[ALWAYS], self.lines[BEFORE], self.looped(), self.lines[AFTER], self.lines[TOTAL]]
        head = f"def {self.name}({', '.join(['T', *arguments])}):"
        head = textwrap.wrap(head, 116, subsequent_indent="        ")
        about = textwrap.wrap(", ".join(map(self.about, arguments)), 110)
        about = ["# " + line.replace("\u00a0", " ") for line in about]
        returned = [f"({returned[0]},)"] if len(returned) == 1 else returned
        body = [*about, *[line for part in parts for line in part], f"return {', '.join(returned)}"]
        return "\n".join([*head, *["    " + line for line in body]]) + "\n"

    def about(self, array: str) -> str:
        """An argument, with its shape."""
        place = next(p for p in [*self.loop.buffers.values(), *self.loop.places.values()] if p.array == array)
        time = [] if not place.time else ["(T+1)"] if place.more else ["T"]
        return f"{array}:\u00a0{'×'.join(map(str, [*time, *place.shape]))}"

    def looped(self) -> list[str]:
        """The loop itself."""
        order = "reversed(range(T))" if self.loop.reverse else "range(T)"
        within = self.lines[WITHIN]
        return [f"for t in {order}:", *["    " + line for line in within]] if within else []

    # Statements

    def computed(self, v: Value) -> list[str]:
        """The statements that compute a value; none, where it is written out wherever it is used."""
        loop, part = self.loop, self.loop.parts[v]
        if part in (ALWAYS, TOTAL):
            outside = [u for u in loop.users[v] if loop.parts[u] != part]
            if len(loop.users[v]) == 1 and not outside and v not in loop.totals:
                return []
            text = self.expression(v) if v.ndim or part == TOTAL else f"np.asarray({self.expression(v)})"
            return [f"{loop.named(v).array} = {text}"]
        if v.kind == "view":
            read = [u for u in loop.users[v] if u.kind not in ("view", "total")]
            if part != BEFORE or loop.where(v) is not None or not read:
                return []
            text = self.read(v)
            return [f"{loop.named(v, timed=True).array} = {text}"]
        if v not in loop.places:
            timed = part != WITHIN or loop.is_wanted_outside(v)
            home = loop.moved_in(v) if timed else None
            place = loop.buffer(v, timed)
            if home:
                loop.homes[place.array] = home
                del loop.rooms[place.array]
        if part == WITHIN:
            return self.statements(v, all_times=False)
        statements = self.statements(v, all_times=True)
        return statements or ["for t in range(T):", *["    " + s for s in self.statements(v, all_times=False)]]

    def statements(self, v: Value, all_times: bool) -> list[str]:
        """What computes a value, at one time, or at all times at once; nothing, if that cannot be done at once."""
        place, when = self.loop.places[v], "all" if all_times else "one"
        out = place.all() if all_times else place.at()
        target = out if "[" in out else f"{out}[...]"
        if all_times and not any(self.loop.is_timed(a) for a in v.inputs):
            return [f"{target} = {self.expression(v)}"]
        out = out.replace("]", ", ...]") if not (v.ndim or all_times) and place.time else out
        args = [self.read(a, when, v.ndim) for a in v.args]
        if v.op in ("where", "copy", "astype"):
            return [f"{target} = {self.applied(v, args)}"]
        if v.op == "matmul":
            return [f"np.matmul({', '.join(product)}, out={o})" for product, o in self.product(v, out, all_times)]
        if v.op == "concat":
            args = [self.repeated(a, text) if all_times else text for a, text in zip(v.args, args)]
            return [f"np.concatenate(({', '.join(args)}), axis={v.options['axis']}, out={out})"]
        if v.op == "pad":
            start, axis = v.options["start"], v.options["axis"]
            part = f"[..., {start}:{start + v.args[0].shape[axis]}{', :' * (-1 - axis)}]"
            return [f"{target} = 0", f"{out}{part} = {args[0]}"]
        if v.op in ("put", "call"):
            return [] if all_times else [f"{target} = {self.applied(v, args)}"]
        return [self.applied(v, [*args, f"out={out}"])]

    def product(self, v: Value, out: str, all_times: bool) -> list[tuple[tuple[str, str], str]]:
        """The operands of a product, and where it goes; nothing, if it cannot be done for all times at once."""
        a, b = v.args
        if not all_times:
            return [((self.read(a, "one"), self.read(b, "one")), out)]
        if b.ndim == 2 and not self.loop.is_timed(b):  # one product of all rows
            return [((self.rows(a), self.read(b)), out + as_rows(v))]
        if min(a.ndim, b.ndim) < 2:
            return []
        return [((self.read(a, "all", max(a.ndim, b.ndim)), self.read(b, "all", max(a.ndim, b.ndim))), out)]

    def applied(self, v: Value, args: list[str]) -> str:
        """An operation of these arguments, as an expression."""
        if v.op == "copy":
            return args[0]
        if v.op == "astype":
            return f"{args[0]}.astype('{v.dtype}')"
        if v.op in ("put", "call"):
            function = partial(OPERATIONS["put"][1], **v.options) if v.op == "put" else v.options["function"]
            name = self.loop.fresh(getattr(function, "__name__", "put").replace("<lambda>", "called"))
            self.functions[name] = function
            return f"{name}({', '.join(args)})"
        if v.op in ("sigmoid", "quotient"):
            return f"{v.op}({', '.join(args)})"
        options = "".join([f", {name}={option}" for name, option in v.options.items()])
        return f"np.{v.op}({', '.join(args[: len(v.args)])}{options}{''.join(f', {o}' for o in args[len(v.args) :])})"

    # Expressions

    def read(self, v: Any, when: str = "all", ndim: int = 0) -> str:
        """A value at one time, or at all times; there with axes after that of time, so that it broadcasts to ndim."""
        if not isinstance(v, Value):
            return repr(v) if math.isfinite(v) else f"float('{v}')"
        place = self.loop.where(v)
        if place is not None:
            text = place.at() if when == "one" else place.all()
        elif v.kind == "view":
            text = self.viewed(v, self.read(v.args[0], when), when == "all" and self.loop.is_timed(v))
        else:
            text = self.expression(v, inner=True)
        if when == "all" and self.loop.is_timed(v) and v.ndim < ndim:
            text += f"[:{', None' * (ndim - v.ndim)}]"
        return text

    def viewed(self, v: Value, x: str, timed: bool) -> str:
        """A view of x: with an axis of time before its own, if it is timed."""
        if v.op == "slice":
            return f"{x}[..., {v.options['start']}:{v.options['stop']}{', :' * (-1 - v.options['axis'])}]"
        if v.op == "swap":
            return f"{x}.swapaxes(-1, -2)" if timed or v.ndim > 2 else f"{x}.T"
        if v.op == "transpose":
            return f"{x}.transpose({(0, *[a + 1 for a in v.options['axes']]) if timed else v.options['axes']})"
        if v.op == "index":
            return f"{x}[{', '.join([*([':'] if timed else []), *map(index_text, v.options['index'])]) or '...'}]"
        shape = f"({''.join(f'{n}, ' for n in (['T'] if timed else []) + [*v.shape])})"
        if v.op == "reshape":
            return f"{x}.reshape({shape})"
        aligned = f"[:{', None' * (v.ndim - v.args[0].ndim)}]" if timed and v.args[0].ndim < v.ndim else ""
        return f"np.broadcast_to({x}{aligned}, {shape})"

    def rows(self, v: Value) -> str:
        """A value of all times as a matrix: all rows, one after another."""
        return self.read(v) + as_rows(v)

    def repeated(self, v: Value, text: str) -> str:
        """A value of all times, be it always the same."""
        return text if self.loop.is_timed(v) else f"np.broadcast_to({text}, (T, {''.join(f'{n}, ' for n in v.shape)}))"

    def result(self, v: Value) -> str:
        """What is returned: a value of all times, in an array of its own."""
        if self.loop.is_timed(v):
            return self.read(v) + (".copy()" if base(v) in self.loop.given else "")
        return f"{self.repeated(v, self.read(v))}.copy()"

    def expression(self, v: Value, inner: bool = False) -> str:
        """A value without an axis of time: what is always the same, or a total."""
        if v.op == "full":
            return f"np.full({v.shape}, {self.read(v.options['fill'])}, '{v.dtype}')"
        if v.op == "sum":
            [x], axes, keep = v.args, v.options["axis"], ", keepdims=True" if v.options["keepdims"] else ""
            is_of_time = x.op == "total" and self.loop.where(x) is None and self.loop.is_timed(x.args[0])
            text = self.total(x) if is_of_time else self.read(x)
            return f"{text}.sum(axis={axes[0] if len(axes) == 1 else axes}{keep})"
        if v.kind == "total":
            text = self.total(v)
        elif v.kind == "view":
            return self.viewed(v, self.read(v.args[0]), timed=False)
        elif v.op in INFIX:
            text = f" {INFIX[v.op]} ".join(map(self.read, v.args))
        elif v.op == "concat":
            return f"np.concatenate(({', '.join(map(self.read, v.args))}), axis={v.options['axis']})"
        elif v.op == "pad":
            options = ", ".join(f"{name}={option}" for name, option in v.options.items())
            return f"padded({self.read(v.args[0])}, {options})"
        else:
            return self.applied(v, [*map(self.read, v.args)])
        return f"({text})" if inner else text

    def total(self, v: Value) -> str:
        """A sum over time; that of products of matrices is one product, of all rows of one with all of the other."""
        timed, (a, *rest) = [self.loop.is_timed(x) for x in v.args], v.args
        if v.op == "total":
            return f"{self.read(a)}.sum(axis=0)" if timed[0] else f"T * {self.read(a)}"
        [b] = rest
        if a.op == "swap" and a.ndim == 2 == b.ndim and all(timed):
            return f"{self.rows(a.args[0])}.T @ {self.rows(b)}"
        if min(a.ndim, b.ndim) >= 2:
            ndim = max(a.ndim, b.ndim)
            return f"np.matmul({self.read(a, 'all', ndim)}, {self.read(b, 'all', ndim)}).sum(axis=0)"
        return f"sum({self.read(a, 'one')} @ {self.read(b, 'one')} for t in range(T))"


def as_rows(v: Value) -> str:
    """What makes a matrix of the values of all times; how many rows it has, NumPy cannot tell of what is empty."""
    return f".reshape({'-1' if v.shape[-1] else f'T * {math.prod(v.shape[:-1])}'}, {v.shape[-1]})"


def index_text(part: Any) -> str:
    if isinstance(part, slice):
        return ":".join("" if n is None else str(n) for n in (part.start, part.stop, part.step))
    return "..." if part is ... else str(part)
