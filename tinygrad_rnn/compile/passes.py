"""The passes: from a derived step to one that has less to do within the loop.

Only what waits for the last state has to be computed step by step; everything else is done for all steps at once, which
is what a processor is good at. A value *waits* if it depends on a state that is carried over; on the way back, if it
depends on the gradient that comes from the step after. Each pass rewrites a :class:`~.trace.Derived`, and each
can be left out: what is computed stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .graph import LINEAR, Graph, Renewed, Value, depending, reach
from .trace import Derived

# What waits -----------------------------------------------------------------------------------------------------------


def cyclic(carries: Sequence[tuple[Value, Value]]) -> list[Value]:
    """Of values that are carried (before a step, after it), those before it that depend on themselves, steps ago."""
    values = reach([after for _, after in carries])
    feeds = {before: [b for b, after in carries if after in depending(values, [before])] for before, _ in carries}
    found = []
    for start in feeds:
        seen = [*feeds[start]]
        for v in seen:  # which grows meanwhile
            seen += [w for w in feeds[v] if w not in seen]
        if start in seen:
            found.append(start)
    return found


class Direction:
    """One of the two loops, forward or backward: which values it computes, and when."""

    def __init__(self, values: list[Value], carries: Sequence[tuple[Value, Value]], given: Iterable[Value]):
        self.values = set(values)
        self.varying = depending(values, given)  # different at each time
        cycles = cyclic(carries)
        waits, needed = set(cycles), set(cycles)
        for _ in range(len(carries) + 1):  # what is carried on from a cycle waits; what leads to one is needed in it
            waits = depending(values, [*cycles, *[before for before, after in carries if after in waits]])
            ends = [after for before, after in carries if before in needed and before in waits]
            needed.update(reach(ends))
        self.after = waits & self.values
        self.loop = self.after & needed

    def rank(self, v: Any) -> int:
        """0: the same at all times. 1: known before the loop. 2: computed in the loop. 3: known after it."""
        return 2 if v in self.loop else 3 if v in self.after else 1 if v in self.varying else 0


def directions(d: Derived) -> tuple[Direction, Direction]:
    """The forward loop, and the backward one: there, what was computed forward is known before."""
    forward, everything = reach([*d.outs, *d.new_state]), reach(d.roots())
    given = [*d.inputs, *d.state, *d.g_outs, *d.g_state]
    known = depending(forward, [*d.inputs, *d.state])
    back = [v for v in everything if v not in set(forward)]
    return (
        Direction(forward, [*zip(d.state, d.new_state)], [*d.inputs, *d.state]),
        Direction(back, gradient_carries(d), [*given, *known]),
    )


def ranks(d: Derived) -> Callable[[Value, Any], int]:
    """``rank(v, a)``: when a is known, in the loop that computes v."""
    forward, backward = directions(d)
    return lambda v, a: (forward if v in forward.values else backward).rank(a)


def gradient_carries(d: Derived) -> list[tuple[Value, Value]]:
    """The gradients of the state: before a backward step, and after it."""
    return [(g, d.gradients[s]) for s, g in zip(d.state, d.g_state) if s in d.gradients]


# States that stay ----------------------------------------------------------------------------------------------------


def hold_steady(d: Derived) -> None:
    """A state that no step changes is no state, but a weight: a mask that is drawn once, say."""
    steady = [(s, g) for s, new, g in zip(d.state, d.new_state, d.g_state) if s is new and new not in d.outs]
    steady = [(s, g) for s, g in steady if s not in d.gradients or g in reach([d.gradients[s]])]  # it is not detached
    for s, _ in steady:
        at = d.state.index(s)
        for values in (d.state, d.new_state, d.g_state):
            values.pop(at)
        d.weights.append(s)
        d.steady[at + len(d.steady)] = s
    zeros = {g: d.graph.make("full", shape=g.shape, fill=0, dtype=g.dtype) for _, g in steady}
    d.rebuild(lambda v, new: zeros.get(v))


# Products -------------------------------------------------------------------------------------------------------------


def split_products(d: Derived) -> None:
    """``concat(x, h) @ W`` is ``x @ W[:n] + h @ W[n:]``, of which the first does not wait.

    On the way back, the gradients of x and of h are two products, too, and so are those of the two parts of W.
    """
    forward, graph = directions(d)[0], d.graph

    def is_mixed(v: Value) -> bool:
        return v.op == "concat" and v.options["axis"] == -1 and len({forward.rank(part) == 2 for part in v.args}) == 2

    split = [v for v in forward.values if v.op == "matmul" and is_mixed(v.args[0])]
    weights = {id(simply(v.args[1])) for v in split}

    def rule(v: Value, new: Renewed) -> Value | None:
        if v in split:
            stop, terms = 0, []
            for part in v.args[0].args:
                start, stop = stop, stop + part.shape[-1]
                rows = graph.make("slice", new(v.args[1]), axis=-2, start=start, stop=stop)
                terms.append(graph.make("matmul", new(part), rows))
            return joined(graph, "add", terms)
        if v.op == "matmul" and v.args[0].op == "swap" and is_mixed(v.args[0].args[0]):
            parts = [graph.make("swap", new(part)) for part in v.args[0].args[0].args]
            return graph.make("concat", *[graph.make("matmul", part, new(v.args[1])) for part in parts], axis=-2)
        if v.op == "slice" and v.options["axis"] == -1 and v.args[0].op == "matmul":
            g, w = v.args[0].args
            if id(simply(w)) in weights:
                return graph.make("matmul", new(g), graph.make("slice", new(w), **v.options))
        return None

    d.rebuild(rule)


def simply(v: Value) -> Value:
    """A matrix, which v may be the transpose of."""
    return v.args[0] if v.op == "swap" else v


def merge_products(d: Derived) -> None:
    """Several products with one left operand, and constant right ones, become one: gates' weights, side by side.

    A sum of products with constant right operands, as the gradient of those is, becomes one, too.
    """
    rank, graph = ranks(d), d.graph

    def is_affine(v: Any) -> bool:
        """Whether it is a product within the loop with a matrix that is always the same."""
        product = isinstance(v, Value) and v.op == "matmul" and v.args[1].ndim == 2
        return product and rank(v, v) == 2 and rank(v, v.args[1]) == 0

    siblings: dict[Value, list[Value]] = {}
    for v in reach(d.roots()):
        if is_affine(v):
            siblings.setdefault(v.args[0], []).append(v)

    def rule(v: Value, new: Renewed) -> Value | None:
        if is_affine(v) and len(group := siblings[v.args[0]]) > 1:
            whole = graph.make("matmul", new(v.args[0]), side_by_side(graph, [new(u.args[1]) for u in group], -1))
            start = sum(u.shape[-1] for u in group[: group.index(v)])
            return graph.make("slice", whole, axis=-1, start=start, stop=start + v.shape[-1])
        alone = v.op == "add" and all(is_affine(a) and len(siblings[a.args[0]]) == 1 for a in flat(v, "add"))
        if alone and all(a.shape == v.shape for a in flat(v, "add")):
            products = [a.args for a in flat(v, "add")]
            left = graph.make("concat", *[new(a) for a, _ in products], axis=-1)
            return graph.make("matmul", left, side_by_side(graph, [new(b) for _, b in products], -2))
        return None

    d.rebuild(rule)


def side_by_side(graph: Graph, matrices: list[Value], axis: int) -> Value:
    if all(m.op == "swap" for m in matrices):  # a transpose again, so that no copy is made of it
        return graph.make("swap", graph.make("concat", *[m.args[0] for m in matrices], axis=-3 - axis))
    return graph.make("concat", *matrices, axis=axis)


# Sums and products of many --------------------------------------------------------------------------------------------


def reassociate(d: Derived) -> None:
    """``(a(h) + x) + b`` is ``(b + x) + a(h)``, and so are products: what waits comes last."""
    rank, uses, graph = ranks(d), used(d), d.graph

    def rule(v: Value, new: Renewed) -> Value | None:
        if v.op not in ("add", "multiply") or rank(v, v) < 2:
            return None
        terms = flat(v, v.op, uses)
        if len(terms) < 3 or len({rank(v, t) for t in terms}) < 2:
            return None
        ranked = [[new(t) for t in terms if rank(v, t) == r] for r in range(4)]
        return joined(graph, v.op, [joined(graph, v.op, some) for some in ranked if some])

    d.rebuild(rule)


def used(d: Derived) -> dict[Value, int]:
    """How often each value is used."""
    uses: dict[Value, int] = {}
    for a in [*[a for v in reach(d.roots()) for a in v.inputs], *d.roots()]:
        uses[a] = uses.get(a, 0) + 1
    return uses


def flat(v: Any, op: str, uses: dict | None = None) -> list:
    """The terms of a sum of sums, say, as far as nothing but the whole uses the partial ones."""
    if not isinstance(v, Value) or v.op != op:
        return [v]
    inner = [isinstance(a, Value) and (uses is None or uses[a] == 1) for a in v.args]
    return [t for a, partial in zip(v.args, inner) for t in (flat(a, op, uses) if partial else [a])]


def joined(graph: Graph, op: str, terms: list) -> Any:
    """The sum of terms, or their product, one after another."""
    result = terms[0]
    for term in terms[1:]:
        if isinstance(result, Value) or isinstance(term, Value):
            result = graph.make(op, result, term)
        else:
            result = result + term if op == "add" else result * term
    return result


# Over all time --------------------------------------------------------------------------------------------------------


def totals(d: Derived) -> None:
    """The gradient of a weight is a sum over time, for which nothing has to wait.

    The sum is moved inwards through what is linear, until it meets a product of two values that vary: that is one
    product then, of all steps at once.
    """
    varying = directions(d)[1].varying
    operands = {a for v in reach(d.roots()) if v.op == "matmul" for a in v.inputs}  # these are stored in any case

    def total(v: Any) -> Any:
        if v not in varying:
            return v
        changing = [a for a in v.args if a in varying]
        linear = v.op in LINEAR and len(changing) == len(v.args)
        if v not in operands and (linear or (v.op in ("matmul", "multiply") and len(changing) == 1)):
            return d.graph.make(v.op, *map(total, v.args), **v.options)
        return d.graph.make("total_matmul", *v.args) if v.op == "matmul" else d.graph.make("total", v)

    for w in d.weights:
        if w in d.gradients:
            g = d.gradients[w]
            d.gradients[w] = total(g) if g in varying else d.graph.make("total", g)
            d.gradients[w].name = d.gradients[w].name or f"d{w.name}"


def own_places(d: Derived) -> None:
    """Each carried value is computed into a place of its own, be it another one, an input, part of something, or always
    the same: what is made of that is made before.
    """
    taken: list[Value] = []
    varying = set().union(*[direction.varying for direction in directions(d)])

    def own(v: Value) -> Value:
        if v.kind in ("input", "view") or v in taken or (v not in varying and v.op != "copy"):
            v = d.graph.make("copy", v, tag=len(taken), name=v.name)
        taken.append(v)
        return v

    d.new_state = [own(v) for v in d.new_state]
    taken.clear()
    d.gradients.update({s: own(d.gradients[s]) for s in d.state if s in d.gradients})


# For NumPy ------------------------------------------------------------------------------------------------------------


def keep_parts(d: Derived) -> None:
    """Where the backward loop reads parts alone of a value of the forward loop, these are kept, and not the whole."""
    forward, backward = directions(d)
    parts: dict[Value, dict[Value, None]] = {}
    for v in reach(d.roots()):
        for a in v.inputs if v in backward.values else ():
            whole = a.args[0] if a.op == "slice" and a.options["axis"] == -1 else a
            if v.op != "slice" or v.args[0] is not whole:  # that is a part, whoever reads it
                parts.setdefault(whole, {})[a] = None
    wide = {v for v in parts if forward.rank(v) == 2 and v in forward.values and v.kind not in ("view", "input")}
    wide = {v for v in wide if v not in parts[v] and sum(a.shape[-1] for a in parts[v]) < v.shape[-1]}

    def rule(v: Value, new: Renewed) -> Value | None:
        if v.op == "slice" and v.args[0] in wide and v in parts[v.args[0]]:
            return d.graph.make("copy", d.graph.make("slice", new(v.args[0]), **v.options), tag="kept")
        return None

    d.rebuild(rule)


# For kernels ----------------------------------------------------------------------------------------------------------


def sink_slices(d: Derived) -> None:
    """A slice of an elementwise value is that value of slices: so all that one kernel computes has one shape."""

    def rule(v: Value, new: Renewed) -> Value | None:
        if v.op != "slice" or v.options["axis"] != -1:
            return None
        return sunk(d.graph, new(v.args[0]), v.options)

    d.rebuild(rule)


def sunk(graph: Graph, x: Value, options: dict) -> Value:
    if x.kind != "elementwise":
        return graph.make("slice", x, **options)

    def cut(a: Any) -> Any:
        whole = isinstance(a, Value) and a.shape[-1:] == x.shape[-1:]
        return sunk(graph, a, options) if whole else a

    return graph.make(x.op, *map(cut, x.args), **x.options)


def sink_joins(d: Derived) -> None:
    """And an elementwise value of joined ones is the join of such values, part by part."""

    def rule(v: Value, new: Renewed) -> Value | None:
        whole = [a for a in map(new, v.args) if isinstance(a, Value)]
        joins = [a for a in whole if a.op == "concat" and a.options["axis"] == -1 and a.shape == v.shape]
        if v.kind != "elementwise" or not joins or v.op == "copy":
            return None
        stop, parts = 0, []
        for part in joins[0].args:
            start, stop = stop, stop + part.shape[-1]
            parts.append(sunk_into(d.graph, v, new, start, stop))
        return d.graph.make("concat", *parts, axis=-1)

    d.rebuild(rule)


def share_joins(d: Derived) -> None:
    """What joins some of the parts that another value joins is a part of that."""
    joins = [v for v in reach(d.roots()) if v.op == "concat" and v.options["axis"] == -1]

    def rule(v: Value, new: Renewed) -> Value | None:
        if v not in joins:
            return None
        for whole in joins:
            starts = [i for i in range(len(whole.args) - len(v.args)) if whole.args[i : i + len(v.args)] == v.args]
            starts += [i for i in [len(whole.args) - len(v.args)] if i > 0 and whole.args[i:] == v.args]
            if starts and v not in reach([whole]):
                start = sum(a.shape[-1] for a in whole.args[: starts[0]])
                return d.graph.make("slice", new(whole), axis=-1, start=start, stop=start + v.shape[-1])
        return None

    d.rebuild(rule)


def sunk_into(graph: Graph, v: Value, new: Renewed, start: int, stop: int) -> Value:
    def cut(a: Any) -> Any:
        whole = isinstance(a, Value) and a.shape[-1:] == v.shape[-1:]
        return sunk(graph, a, {"axis": -1, "start": start, "stop": stop}) if whole else a

    return graph.make(v.op, *[cut(new(a)) for a in v.args], **v.options)


PASSES: list[Callable[[Derived], None]] = [
    hold_steady, split_products, merge_products, reassociate, totals, own_places,
]  # fmt: skip
FOR_NUMPY: list[Callable[[Derived], None]] = [keep_parts]
FOR_KERNELS: list[Callable[[Derived], None]] = [sink_joins, sink_slices, share_joins, own_places]
