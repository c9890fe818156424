"""Numba's source of a loop: the elementwise work between two products is one kernel, one pass over the elements; and
where nothing else is left in it, the loop itself is compiled, too.

Within the loop, values are computed in levels. What depends on a product, on a sum, or on a kernel of another shape, is
a level later than that; all elementwise values of one level and one shape are one kernel.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

from .graph import Value, called
from .loops import AFTER, BEFORE, WITHIN, Loop, Place, base
from .source import NumPySource

SCALAR = {
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}", "negative": "-{}",
    "square": "{0} * {0}", "reciprocal": "1 / {}", "power": "{} ** {}", "copy": "{}", "astype": "{}",
    "quotient": "zero({0}) if {0} == 0 else {0} / {1}", "where": "{1} if {0} else {2}",
    "maximum": "{0} if {0} > {1} or {0} != {0} else {1}", "minimum": "{0} if {0} < {1} or {0} != {0} else {1}",
    "less": "{} < {}", "less_equal": "{} <= {}", "greater": "{} > {}", "greater_equal": "{} >= {}",
    "equal": "{} == {}", "not_equal": "{} != {}", "logical_and": "{} and {}", "logical_or": "{} or {}",
    "logical_not": "not {}", "bitwise_and": "{} & {}", "bitwise_or": "{} | {}",
    "isnan": "{0} != {0}", "tanh": "tanh({})", "sigmoid": "sigmoid({})", "absolute": "abs({})",
    **{name: f"np.{name}({{}})" for name in ("exp", "log", "sqrt", "sin", "cos", "expm1", "log1p", "exp2", "arctan",
                                             "sign", "floor", "ceil", "trunc", "sinh", "cosh", "tan")},
    **{name: f"np.{name}({{}}, {{}})" for name in ("arctan2", "hypot", "logaddexp")},
}  # fmt: skip
"""An operation on single numbers."""

REDUCED = {"sum": ("{} + {}", "0"), "max": (SCALAR["maximum"], "-np.inf"), "min": (SCALAR["minimum"], "np.inf")}


class FusedLoop(Loop):
    """A loop whose elementwise work is done by kernels: they do that of before and after it, too, on the way."""

    def __init__(self, real: Any, *arguments: Any):
        self.real = real  # the dtype of what kernels compute; what is of another one, they leave to NumPy
        super().__init__(*arguments)

    def arrange(self) -> None:
        super().arrange()
        for v in reversed(self.values):
            inside = [self.parts[u] == WITHIN and self.is_fusible(u) for u in self.readers(v)]
            if self.parts[v] == BEFORE and self.is_fusible(v) and not self._is_kept(v) and inside and all(inside):
                self.parts.update(dict.fromkeys([v, *self._views(v)], WITHIN))
        for v in self.values:
            ready = all(self.parts[a] != AFTER for a in self.sources(v))
            if self.parts[v] == AFTER and ready and (self.is_fusible(v) or (self.is_joined(v) and v.kind == "join")):
                self.parts[v] = WITHIN
        self._level()

    def _views(self, v: Value) -> list[Value]:
        """The views of a value, and theirs."""
        return [w for u in self.users[v] if u.kind == "view" for w in (u, *self._views(u))]

    def _is_kept(self, v: Value) -> bool:
        return v in self.given or v in self.after or v in self.results or v in self.totals

    def is_fusible(self, v: Value) -> bool:
        """Whether a kernel can compute it."""
        kinds = {a.dtype for a in (v, *v.inputs) if a.dtype.kind == "f"} | {self.real}
        known = v.op in SCALAR and 1 <= v.ndim <= 2 and (v.dtype.kind == "f" or v.dtype.name in ("int64", "bool"))
        return known and len(kinds) == 1 and all(self.access(a, ["0"] * a.ndim) is not None for a in v.inputs)

    def is_joined(self, v: Value) -> bool:
        """Whether kernels can write into its parts, as they compute them."""
        return (
            v.op == "concat" and v.options["axis"] == -1 and v.ndim <= 2
            and all(self.parts[a] == WITHIN and self.is_fusible(a) and a not in self.after for a in v.args)
        )  # fmt: skip

    def _level(self) -> None:
        """When, within a step, values are computed: as early as they can, then as late as they may."""
        inner = [v for v in self.values if self.parts[v] == WITHIN and v.kind != "input" and v not in self.given]
        self.level: dict[Value, int] = {}
        for v in inner:
            at = [self.level[a] + self._apart(a, v) for a in v.inputs if a in self.level]
            self.level[v] = max(at, default=0)
        for v in reversed(inner):
            users = [u for u in self.users[v] if u in self.level]
            if self.is_fusible(v) and v not in self.after and users and not self.is_wanted_outside(v):
                self.level[v] = min(self.level[u] - self._apart(v, u) for u in self._followed(users))
        for v in inner:
            if v.kind in ("view", "join") and (v.kind == "view" or self.is_joined(v)):
                self.level[v] = max([self.level[a] for a in v.inputs if a in self.level], default=0)

    def _followed(self, users: list[Value]) -> list[Value]:
        """The users, and behind views and joins theirs."""
        found = []
        for u in users:
            virtual = u.kind == "view" or self.is_joined(u)
            found += self._followed([w for w in self.users[u] if w in self.level]) or [u] if virtual else [u]
        return found

    def _apart(self, a: Value, v: Value) -> int:
        """How many levels v has to be behind a: none, in one kernel."""
        if v.kind == "view" or self.is_joined(v):
            return 0
        direct = self.is_fusible(a) and self.is_fusible(v) and a.shape == v.shape and a in v.args
        return 0 if direct else 1

    def has_read(self, v: Value, before: Value, after: Value) -> bool:
        if after not in self.level:
            return super().has_read(v, before, after)
        if self.is_joined(after):
            return all(self.has_read(v, before, a) for a in after.args)
        first, then = (self.level[v], self.is_fusible(v)), (self.level[after], self.is_fusible(after))
        return first < then or (first == then and then[1] and v.shape == after.shape and self._in_columns(v, before))

    def _in_columns(self, v: Value, u: Value) -> bool:
        """Whether a kernel that computes v reads u in whole columns: what it writes at j, it has read at j."""
        read = [a for a in v.inputs if base(a) is u]
        width = v.shape[-1]
        return all(a is u or (a.op == "slice" and a.args[0] is u and a.options["start"] % width == 0) for a in read)

    # How a kernel reads a value

    def access(self, v: Value, index: list[str]) -> tuple[Value, list[str]] | None:
        """The value whose array it is read from, and the index there; through views. None: not as single numbers."""
        if v.kind != "view" or v in self.places:
            return v, index
        x, index = v.args[0], [*index]
        if v.op == "slice" and v.options["axis"] == -1:
            column, _, more = index[-1].partition(" + ")
            index[-1] = f"{column} + {int(more or 0) + v.options['start']}"
        elif v.op == "broadcast":
            index = ["0" if n == 1 else i for i, n in zip(index[v.ndim - x.ndim :], x.shape)]
        elif v.op == "reshape" and [n for n in v.shape if n != 1] == [n for n in x.shape if n != 1]:
            rest = iter([i for i, n in zip(index, v.shape) if n != 1])
            index = ["0" if n == 1 else next(rest) for n in x.shape]
        elif v.op == "swap":
            index[-2:] = index[:-3:-1]
        else:
            return None
        return self.access(x, index)


class NumbaSource(NumPySource):
    """The statements of a loop; those within it are calls of ``kernels``, and products."""

    loop: FusedLoop

    def __init__(self, loop: FusedLoop, name: str):
        self.kernels, self.steps = [], []  # a step: what it is, and its text
        super().__init__(loop, name)

    def write_loop(self) -> None:
        loop = self.loop
        inner = [v for v in loop.values if v in loop.level and v.kind != "view"]
        for v in sorted(inner, key=loop.is_joined, reverse=True):  # parts live where they are joined
            self.place(v)
        for level in range(max(loop.level.values(), default=-1) + 1):
            here = [v for v in inner if loop.level[v] == level and not loop.is_joined(v)]
            for v in here:
                if not loop.is_fusible(v):
                    self.steps += self.step(v)
            fused = [v for v in here if loop.is_fusible(v)]
            for shape in dict.fromkeys(v.shape for v in fused):
                self.steps.append(("kernel", self.kernel([v for v in fused if v.shape == shape])))
        self.lines[WITHIN] = [text for _, text in self.steps]

    def compiled_loop(self) -> str:
        """The loop as a function for Numba to compile, which takes its place here."""
        if not self.steps:
            return ""
        lines = [re.sub(r"^np.matmul\((.*), out=(.*)\)$", r"product(\1, \2)", text) for _, text in self.steps]
        words = dict.fromkeys(re.findall(r"(?<![.\w])[A-Za-z_]\w*", " ".join(lines)))
        names = [w for w in words if w not in ("t", "T", "product") and not w.startswith(f"{self.name}_")]
        order = "range(T - 1, -1, -1)" if self.loop.reverse else "range(T)"
        head = [f"def {self.name}_loop(T, {', '.join(names)}):", f"    for t in {order}:"]
        self.whole = f"{self.name}_loop(T, {', '.join(names)})"
        return "\n".join([*head, *["        " + line for line in lines]])

    whole = ""

    def looped(self) -> list[str]:
        return [self.whole] if self.whole else super().looped()

    def place(self, v: Value) -> None:
        """An array for a value, if one is needed: for later, or for another kernel, or a product."""
        loop = self.loop
        if v in loop.places:
            return
        joins = [u for u in loop.users[v] if u in loop.level and loop.is_joined(u) and u in loop.places]
        outside = loop.is_wanted_outside(v)
        if joins and loop.is_fusible(v) and (loop.places[joins[0]].time or not outside):
            stops = itertools.accumulate([a.shape[-1] for a in joins[0].args])
            stop = next(stop for a, stop in zip(joins[0].args, stops) if a is v)
            loop.places[v] = loop.places[joins[0]].sliced(stop - v.shape[-1], stop)
            return
        same = [u for u in loop.readers(v) if u in loop.level and not loop.is_joined(u)]
        local = loop.is_fusible(v) and all(
            loop.is_fusible(u) and loop.level[u] == loop.level[v] and v in u.args and u.shape == v.shape for u in same
        )
        if outside and (home := loop.moved_in(v)):
            loop.places[v] = home
        elif outside or not local:
            loop.buffer(v, timed=outside)

    def step(self, v: Value) -> list[tuple[str, str]]:
        """What no kernel computes: a product, the sum of rows, or a call."""
        loop = self.loop
        if v.op in REDUCED and v.options["axis"] == (-1,) and v.args[0].ndim == 2 and loop.where(v.args[0]):
            return [("kernel", self.reduction(v))]
        if v.op == "matmul" and self.is_product(v):
            [((a, b), out)] = self.product(v, loop.places[v].at(), all_times=False)
            return [("product", f"np.matmul({a}, {b}, out={out})")]
        return [("other", text) for text in self.statements(v, all_times=False)]

    def is_product(self, v: Value) -> bool:
        """Whether BLAS can be called for it: of matrices whose rows are whole, or the right one's columns."""
        (a, b), where = v.args, self.loop.where
        plain = {v.dtype, a.dtype, b.dtype} == {self.loop.real} and v.ndim == a.ndim == b.ndim == 2
        return plain and where(a) is not None and where(b.args[0] if b.op == "swap" and not where(b) else b) is not None

    # Kernels

    def kernel(self, group: list[Value]) -> str:
        """Write a kernel that computes the values of a group; the text of its call."""
        kernel = Kernel(f"{self.name}_{len(self.kernels)}", self.loop, group)
        self.kernels.append(kernel.text())
        return kernel.call()

    def reduction(self, v: Value) -> str:
        """Write a kernel for the sum of each row, say."""
        x, out = self.loop.where(v.args[0]), self.loop.places[v]
        name = f"{self.name}_{len(self.kernels)}"
        combine, first = REDUCED[v.op]
        arrays = [*dict.fromkeys([x.array, out.array])]
        cut = f"[{x.cut[0]}:{x.cut[1]}]" if x.cut else ""
        into = f"{out.array}[{', '.join([*([out.time] if out.time else []), 'n', *(['0'] if v.ndim == 2 else [])])}]"
        lines = [
            f"def {name}(t, {', '.join(arrays)}):",
            f"    for n in range({x.array}.shape[-2]):",
            f"        row = {x.array}[{', '.join([*([x.time] if x.time else []), 'n'])}]{cut}",
            f"        total = real({first})",
            "        for j in range(row.shape[0]):",
            f"            total = {combine.format('total', 'row[j]')}",
            f"        {into} = total",
        ]
        self.kernels.append("\n".join(lines))
        return f"{name}(t, {', '.join(arrays)})"


class Kernel:
    """One pass over the elements: the values of a group, which are of one shape."""

    def __init__(self, name: str, loop: FusedLoop, group: list[Value]):
        self.name, self.loop, self.group = name, loop, group
        self.shape = group[0].shape
        self.arrays: dict[str, None] = {}
        self.rows: dict[str, str] = {}  # what is read of each row, or written
        self.loads: list[str] = []
        self.sizes: dict[str, str] = {}
        self.taken: set[str] = {"t", "n", "j", "size", "rows", "real", "zero", "tanh", "sigmoid", "np"}
        self.texts: dict[Value, str] = {}
        self.body, self.stores = [], []
        for v in group:
            self._compute(v)

    def call(self) -> str:
        return f"{self.name}(t, {', '.join(self.arrays)})"

    def text(self) -> str:
        head = [f"def {self.name}(t, {', '.join(a + '_' for a in self.arrays)}):"]
        head.append(f"    size = {self.sizes.get('size', self.shape[-1])}")
        indent = "    "
        if len(self.shape) == 2:
            head.append(f"    for n in range({self.sizes.get('rows', self.shape[-2])}):")
            indent += "    "
        lines = [indent + line for line in self.loads] + [f"{indent}for j in range(size):"]
        return "\n".join([*head, *lines, *[f"{indent}    {line}" for line in [*self.body, *self.stores]]])

    def _compute(self, v: Value) -> None:
        args = [self._operand(a, v) for a in v.args]
        form = (
            SCALAR[v.op] if v.op != "astype" else {"f": "real({})", "i": "np.int64({})", "b": "{} != 0"}[v.dtype.kind]
        )
        text = form.format(*args)
        inside = [u for u in self.loop.users[v] if u in self.group]
        written = [*dict.fromkeys(self._places(v))]
        if len(inside) > 1 or written or v.name:  # before anything is written: it may be where something was read
            name = self._fresh(called(v))
            self.body.append(f"{name} = {text}")
            self.texts[v] = name
        else:
            self.texts[v] = f"({text})" if re.search(r" |^-", text) else text
        for place in written:
            self.stores.append(f"{self._element(place, v, self._index(v), store=True)} = {self.texts[v]}")

    def _places(self, v: Value) -> Iterator[Place]:
        """Where a value is written to: an array of its own, and its parts of what it is joined into."""
        if v in self.loop.places:
            yield self.loop.places[v]
        for u in dict.fromkeys(self.loop.users[v]):
            if u in self.loop.level and self.loop.is_joined(u) and u in self.loop.places:
                ends = [*itertools.accumulate([a.shape[-1] for a in u.args])]
                for a, end in zip(u.args, ends):
                    if a is v:
                        yield self.loop.places[u].sliced(end - a.shape[-1], end)

    def _operand(self, a: Any, v: Value) -> str:
        if not isinstance(a, Value):
            text = repr(a) if math.isfinite(a) else "np.nan" if a != a else "np.inf" if a > 0 else "-np.inf"
            floats = any(x.dtype.kind == "f" for x in [v, *v.inputs]) and not isinstance(a, bool)
            return f"real({text})" if floats else text
        if a in self.texts:
            return self.texts[a]
        found, index = self.loop.access(a, self._index(a))
        if found.op == "full" and found not in self.loop.places:
            return self._operand(found.options["fill"], v)
        if found in self.texts:
            return self.texts[found]
        return self._element(self.loop.places[found], found, index)

    def _index(self, v: Value) -> list[str]:
        """The index of v's element in row n, column j."""
        names = ["n", "j"][2 - len(self.shape) :][len(self.shape) - v.ndim :] if v.ndim else []
        return [i if n == m else "0" for i, n, m in zip(names, v.shape, self.shape[len(self.shape) - v.ndim :])]

    def _element(self, place: Place, v: Value, index: list[str], store: bool = False) -> str:
        """An element of an array: by way of its row, which is looked up once."""
        self.arrays.setdefault(place.array)
        time = [place.time] if place.time else []
        *lead, last = index or [""]
        if "n" in lead:
            self.sizes.setdefault("rows", f"{place.array}_.shape[{len(time) + lead.index('n')}]")
        column, _, more = last.partition(" + ")
        offset = int(more or 0) + (place.cut[0] if place.cut else 0)
        if column == "j":
            where = [*time, *lead, *self._columns(place, offset)]
            return self._row(f"{place.array}_[{', '.join(where) or ':'}]", v, store) + "[j]"
        where = [
            *time,
            *lead,
            *([str(offset + int(column)) if column.isdigit() else f"{column} + {offset}"] if column else []),
        ]
        text = f"{place.array}_[{', '.join(where) or '()'}]"
        varies = any(i.partition(" + ")[0] == "j" for i in lead)
        return text if store or varies else self._row(text, v, store)

    def _columns(self, place: Place, offset: int) -> list[str]:
        """The part of a row, from offset on, in multiples of the size: so that the kernel is right for any size."""
        size, width = self.shape[-1], place.shape[-1]
        if width % size == 0:
            times = f" // {width // size}" if width > size else ""
            self.sizes.setdefault("size", f"{place.array}_.shape[-1]{times}")
        if (offset, width) == (0, size):
            return []
        if offset % size:
            return [f"{offset}:{offset} + size"]
        start, stop = [
            "" if k == 0 else "size" if k == 1 else f"{k} * size" for k in (offset // size, offset // size + 1)
        ]
        return [f"{start}:{stop}"]

    def _row(self, text: str, v: Value, store: bool) -> str:
        if text not in self.rows:  # one view of a row, be it read or written: so that it can be seen to be the same
            self.rows[text] = self._fresh(called(v) + ("_to" if store else "_at"))
            self.loads.append(f"{self.rows[text]} = {text}")
        return self.rows[text]

    def _fresh(self, name: str) -> str:
        names = itertools.chain([name], (f"{name}{n}" for n in itertools.count(2)))
        found = next(n for n in names if n not in self.taken)
        self.taken.add(found)
        return found
