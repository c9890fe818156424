"""Random steps, in random ways to run them: a program computes what the tape does, values and gradients.

A step is made line by line: an operation, of values that there are so far, which are tried at once, so that what does
not fit together is left out. Every line is Python's, and a step that fails is printed: it can be pasted into a file.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from dataclasses import dataclass, field

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from strategies import Source

import tinygrad_rnn as tg

needs_numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="needs numba")
LARGEST, ELEMENTS = 3.0, 40  # values are kept below, by a tanh, when they are made; none has more elements

UNARY = [
    "tg.tanh({a})", "tg.sigmoid({a})", "tg.relu({a})", "tg.sin({a})", "0.5 * {a}", "1 - {a}", "-{a}", "{a} * {a}",
    "abs({a})", "tg.sqrt({a} * {a} + 1)", "tg.clip({a}, -0.5, 0.5)", "tg.exp(-abs({a}))", "tg.gelu({a})",
    "tg.softplus({a})", "{a} ** 2", "tg.leaky_relu({a})", "2.0 / (1 + {a} * {a})", "tg.log_sigmoid({a})",
    "{a} * tg.sigmoid({a})", "({a} - {a} * tg.sigmoid({a}))", "tg.tensor({a}.data)", "np.tanh({a})", "tg.cos({a})",
]  # fmt: skip
BINARY = [
    "{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / (1 + {b} * {b})", "tg.maximum({a}, {b})", "tg.minimum({a}, {b})",
    "tg.where({a} > {b}, {a}, {b})", "tg.where({a} > 0, {b}, 0.5)", "({a} - {a} * {b})", "{a} @ {b}",
    "tg.hypot({a}, {b})",
    "tg.einsum('...i,...j->...ij', {a}, {b})", "({a} @ {b}[..., None])[..., 0]", "tg.concatenate([{a}, {b}], -1)",
    "tg.concatenate([{a}, {b}], 0)", "tg.stack([{a}, {b}], -1)", "{a}.at[..., 0].set({b}[..., -1])",
    "{a}.at[..., :1].add({b}[..., -1:])", "{a} @ {b}.T", "tg.dot({a}, {b})", "tg.arctan2({a}, {b})",
    "{a} * tg.sigmoid({b}) + (1 - tg.sigmoid({b})) * tg.tanh({a})", "tg.einsum('bi,bi->b', {a}, {b})[:, None]",
]  # fmt: skip
ALONG = [  # of an axis
    "tg.sum({a}, {k})", "tg.mean({a}, {k}, keepdims=True)", "tg.max({a}, {k})", "tg.min({a}, {k}, keepdims=True)",
    "tg.var({a}, {k})", "tg.softmax({a}, {k})", "tg.log_softmax({a}, {k})", "tg.logsumexp({a}, {k}, keepdims=True)",
    "tg.logsumexp({a}, {k})", "tg.cumsum({a}, {k})", "tg.flip({a}, {k})", "tg.roll({a}, 1, {k})", "tg.prod({a}, {k})",
    "({a} - tg.mean({a}, {k}, keepdims=True)) / tg.sqrt(tg.var({a}, {k}, keepdims=True) + 0.1)",
    "tg.repeat({a}, 2, {k})", "tg.take({a}, [0, -1, 0], {k})", "tg.expand_dims({a}, {k})", "tg.norm({a} + 1, axis={k})",
    "tg.sum({a}, {k}, keepdims=True)", "{a} * tg.softmax({a}, {k})",
    "tg.take_along_axis({a}, tg.argmax({a}, {k}, keepdims=True), {k})",
]  # fmt: skip
VIEWS = [
    "{a}[..., :1]", "{a}[..., 1:]", "{a}[..., -1]", "{a}[0]", "{a}[1:]", "{a}[..., ::-1]", "{a}[..., [0, -1]]", "{a}.T",
    "{a}[None]", "{a}[..., None]", "tg.ravel({a})", "{a}.reshape(-1, 1)", "{a}.reshape({a}.shape[0], -1)", "{a}.mT",
    "tg.swapaxes({a}, 0, -1)", "tg.broadcast_to({a}, (2, *{a}.shape))", "tg.split({a}, 2, -1)[1]", "tg.tril({a})",
    "tg.pad({a}, 1)[..., 1:]", "tg.tile({a}, 2)", "{a}.reshape({a}.shape[0], 2, -1).swapaxes(0, 1)", "tg.diagonal({a})",
    "tg.unstack({a}, -1)[0]", "tg.squeeze({a})", "tg.sum({a})", "tg.mean({a})", "tg.max({a})",
    "tg.moveaxis({a}, 0, -1)",
]  # fmt: skip
OF_INTEGERS = ["{n} + 1", "({n} * 3 + 1) % 5", "{n} + ({a} > 0).sum()", "-{n}", "{n} * {n} % 7"]


@dataclass
class Step:
    """A step, what it is given, and how it is run."""

    lines: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # x (of all times), the states, the weights
    states: list[str] = field(default_factory=list)
    options: dict = field(default_factory=dict)

    def __str__(self) -> str:
        given = ", ".join(f"{name}: {a.dtype} {a.shape}" for name, a in self.arrays.items())
        options = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self.options.items()}
        return "\n".join([f"# {given}; {options}", "def step(x, state):", *["    " + line for line in self.lines]])

    def function(self, weights: dict):
        space = {"tg": tg, "np": np, "__name__": "steps", **weights}
        exec(str(self), space)
        return space["step"]


class Maker:
    """What makes a step, choice by choice."""

    def __init__(self, source: Source, lines: int):
        self.source, self.made = source, Step()
        self.dtype = source.choose(np.float64, np.float64, np.float64, np.float32)
        self.batch, self.width = source.choose(2, 3, 1), source.choose(3, 2, 4, 1)
        self.time = source.choose(4, 5, 1, 2)
        self.values: dict[str, np.ndarray] = {}
        self.in_batch = self._options()
        self._given()
        for _ in range(lines):
            self._line()
        self._end()

    def _options(self) -> bool:
        """Whether everything is to have the batch for its first axis, as rows of it are chosen."""
        source, options = self.source, self.made.options
        options["reverse"] = source.choose(False, False, True)
        options["states"] = source.choose(False, True)
        flags = (self.time, self.batch)
        rows = source.choose("none", "none", "lengths", "mask", "none")
        if rows == "lengths":
            options["lengths"] = source.rng.integers(0, self.time + 1, self.batch)
        elif rows == "mask":
            options["mask"] = source.rng.random(flags) < 0.6
        if resets := source.choose(False, False, True):
            options["reset"] = source.rng.random(flags) < 0.3
        if rows != "none":
            options["pad_value"] = source.choose(0, 1.5)
        return resets or rows != "none"

    def _add(self, name: str, array: np.ndarray, timed: bool = False) -> None:
        array = array.astype(self.dtype) if array.dtype.kind == "f" else array
        self.made.arrays[name] = array
        self.values[name] = array[0] if timed else array

    def _given(self) -> None:
        source, b, h = self.source, self.batch, self.width
        x = source.choose((b, h), (b, h), (b, 1), (b, 2, h))
        if not self.in_batch:
            x = source.choose(x, x, (h,), (1, h), ())
        if source.integer(0, 7) == 7:
            self._add("x", source.rng.integers(0, 2, (self.time, b)), timed=True)
        else:
            self._add("x", source.array((self.time, *x), -1, 1), timed=True)
        for i in range(source.choose(1, 2, 3)):
            shapes = [(b, h), (b, h), (b, 1), (b, h, h), (b,)] + [(h,), (1, h), (), (h, h)] * (not self.in_batch)
            shape = source.choose(*shapes)
            whole = source.integer(0, 6) == 6
            self._add(f"h{i}", source.rng.integers(0, 4, shape) if whole else source.array(shape, -1, 1))
            self.made.states.append(f"h{i}")
        self.made.lines.append(f"{', '.join(self.made.states)}, = state")

    # Lines

    def _some(self, *like: str) -> str:
        """A value: one of the last ones, or of what is given."""
        names = [n for n, a in self.values.items() if a.dtype.kind in (like or "f")]
        names = [n for n in names if n[0] != "w" or not self.source.integer(0, 3)]
        return self.source.choose(*names[::-1][:4], *names) if names else ""

    def _line(self) -> None:
        source = self.source
        kind = source.choose("binary", "product", "unary", "along", "view", "weight", "binary", "integers", "embedding")
        a, b = self._some(), self._some()
        if not a:
            kind = source.choose("integers", "embedding")
        if kind == "product":
            w = self._weight(
                (self.values[a].shape or (1,))[-1], source.choose(self.width, self.width, 2, 2 * self.width)
            )
            text = source.choose(f"{a} @ {w}", f"{a} @ {w}", f"{w}.T @ {a}", f"tg.tanh({a} @ {w} + {b})")
        elif kind == "weight":
            shape = self.values[a].shape
            w = self._weight(*source.choose(shape, shape[-1:], (), (self.width,), (1, self.width), shape[1:]))
            text = source.choose(
                f"{a} * {w}", f"{a} + {w}", f"{w} - {a}", f"tg.sin({w}) * {a}", f"{a} * {w} * {w} + {b}"
            )
        elif kind == "integers":
            text = source.choose(*OF_INTEGERS).format(n=self._some("i"), a=a) if self._some("i") and a else ""
        elif kind == "embedding":
            n, w = self._some("i"), self._weight(source.choose(9, 4), self.width)
            text = source.choose("tg.take({w}, {n} % 4, 0)", "{w}[{n} % 4]").format(w=w, n=n)
            text = text if n else ""
        elif kind == "along":
            text = source.choose(*ALONG).format(a=a, k=source.choose(-1, -1, 0))
        else:
            text = source.choose(*{"unary": UNARY, "binary": BINARY, "view": VIEWS}[kind]).format(a=a, b=b)
        if text:
            self._try(f"v{len(self.made.lines)}", text)

    def _weight(self, *shape: int) -> str:
        if (old := [n for n, a in self.values.items() if n[0] == "w" and a.shape == shape]) and self.source.integer(
            0, 2
        ):
            return old[-1]
        name = f"w{len(self.made.arrays)}"
        self._add(name, self.source.array(shape, -1, 1))
        return name

    def _value(self, text: str) -> np.ndarray | None:
        """What a text is of these values; nothing, if it does not fit them."""
        space = {name: tg.tensor(a) for name, a in self.values.items()}
        try:
            with np.errstate(all="ignore"):
                return np.asarray(getattr(found := eval(text, {"tg": tg, "np": np, **space}), "data", found))
        except (ValueError, IndexError, TypeError, np.exceptions.AxisError):
            return None

    def _try(self, name: str, text: str) -> None:
        a = self._value(text)
        if a is None or a.size > ELEMENTS or not a.size or not np.isfinite(a).all() or a.ndim > 4:
            return
        if a.dtype.kind == "f" and (a.dtype != self.dtype or np.abs(a).max() > LARGEST):
            text = f"tg.tanh({text})" if a.dtype == self.dtype else f"({text}).astype(np.{self.dtype.__name__})"
            a = self._value(text)
        self.values[name] = a
        self.made.lines.append(f"{name} = {text}")

    # The end

    def _next(self, name: str) -> str:
        """The next state, or the text of one that is made of any value."""
        like, source = self.values[name], self.source
        fitting = [n for n, a in self.values.items() if (a.shape, a.dtype) == (like.shape, like.dtype)]
        if source.integer(0, 2):
            fitting = [n for n in fitting if n[0] == "v"] or fitting
        v = self._some()
        if like.dtype.kind != "f":
            return source.choose(*fitting, f"{name} + 1")
        if not v or (len(fitting) > 1 and source.integer(0, 3)):
            return source.choose(*fitting[::-1])
        mixed = f"tg.tanh(0.9 * {name} + {v})"
        if (found := self._value(mixed)) is not None and found.shape == like.shape:
            return mixed
        return source.choose(f"tg.tanh(0.5 * {name} + tg.mean({v}))", f"tg.broadcast_to(tg.mean({v}), {like.shape})")

    def _end(self) -> None:
        names = [n for n, a in self.values.items() if not self.in_batch or a.shape[:1] == (self.batch,)]
        names = [n for n in names if self.values[n].dtype.kind == "f" or "pad_value" not in self.made.options] or names
        made = [n for n in names if n[0] == "v"]
        y = self.source.choose(*(made or names)[::-1], *names)
        self.made.lines.append(f"return {y}, ({', '.join(map(self._next, self.made.states))},)")


# How a step is run ----------------------------------------------------------------------------------------------------


def run(made: Step, mode, way: str) -> list[np.ndarray]:
    """The outputs, and what a way to walk back over them gives."""
    leaves = {n: tg.tensor(a, requires_grad=a.dtype.kind == "f") for n, a in made.arrays.items()}
    inputs = [x for x in leaves.values() if x.requires_grad]
    states = tuple(leaves[n] for n in made.states)
    weights = {n: x for n, x in leaves.items() if n[0] == "w"}
    step = made.function(weights)

    def scanned(xs, state) -> tuple[list, tuple]:
        y, last, *every = tg.scan(step, xs, state, compiled=mode, **made.options)
        return [y, *last, *[s for tree in every for s in tree]], last

    def loss(outs: list, seed: int = 0):
        rng = np.random.default_rng(seed)
        terms = [(rng.standard_normal(y.shape).astype(y.dtype) * y).sum() for y in outs]
        return sum([t for t in terms if t.requires_grad], tg.tensor(np.zeros((), terms[0].dtype)))

    def gradients(y, **options) -> list:
        wanted = tg.gradients(y, inputs, **options) if y.requires_grad and inputs else inputs
        return [x * 0 for x in wanted] if wanted is inputs else wanted

    with np.errstate(all="ignore"):
        outs, last = scanned(leaves["x"], states)
        total = loss(outs)
        if way == "once":
            found = gradients(total)
        elif way == "again":
            found = [*gradients(total, retain_graph=True), *gradients(total, retain_graph=True), *gradients(total)]
        elif way == "second-order":
            first = gradients(total, create_graph=True)
            found = [*first, *gradients(sum([(g * g).sum() for g in first], loss(outs, 1)))]
        else:
            whole = leaves["x"] if leaves["x"].dtype.kind != "f" else leaves["x"] * 0.5
            more, _ = scanned(whole, last if way == "chained" else states)
            totals = [total, loss(more, 1)]
            outs += more
            if way == "both":
                found = gradients(totals[0] + totals[1])
            else:
                order = totals[::-1] if way in ("last-first", "chained") else totals
                found = [g for y in order for g in gradients(y, retain_graph=way == "chained")]
    return [np.asarray(x.data) for x in [*outs, *found]]


WAYS = ["once", "once", "again", "both", "last-first", "first-first", "chained", "second-order"]


def compare(made: Step, mode: str, way: str) -> None:
    expected = run(made, False, way)
    if not max([np.abs(a).max(initial=0) for a in expected]) < 1e4:  # it grows without end: nothing to compare
        return
    single = any(a.dtype == np.float32 for a in made.arrays.values())
    precision = 2e-3 if single else 1e-12 if way != "second-order" else 1e-11
    for i, (a, b) in enumerate(zip(expected, run(made, mode, way), strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{i}\n{made}"
        scale = max(1.0, np.abs(a).max(initial=0))
        np.testing.assert_allclose(b, a, rtol=0, atol=precision * scale, err_msg=f"{way}, {i}\n{made}")


def drawn(source: Source) -> tuple[Step, str]:
    way = source.choose(*WAYS)
    return Maker(source, source.choose(6, 3, 9, 14)).made, way


ALL = {"suppress_health_check": list(hypothesis.HealthCheck)}
FOUND = [2099, 2222, 2756, 3039, 5034]  # that once were wrong
MOST = hypothesis.settings.default.max_examples
FEWER = MOST // 4  # as each is compiled


def chooser(data) -> Source:
    return Source(lambda low, high: data.draw(st.integers(low, high)))


@hypothesis.given(st.data())
@hypothesis.settings(**ALL)
def test_numpys_source_computes_what_the_tape_does(data):
    made, way = drawn(chooser(data))
    compare(made, "numpy", way)


@pytest.mark.parametrize("source", ["numpy", "numba"])
def test_sources_compute_what_the_tape_does_whatever_the_seed(source, uncompiled):
    """Steps that are longer, and odder, than those that Hypothesis begins with."""
    for seed in [*range(6 * MOST), *FOUND]:
        made, way = drawn(Source.seeded(seed))
        compare(made, source, way)


@hypothesis.given(data=st.data())
@hypothesis.settings(**ALL)
def test_kernels_compute_what_the_tape_does_as_they_are_written(uncompiled, data):
    made, way = drawn(chooser(data))
    compare(made, "numba", way)


@needs_numba
@hypothesis.given(st.data())
@hypothesis.settings(max_examples=FEWER, **ALL)
def test_kernels_compute_what_the_tape_does(data):
    made, way = drawn(chooser(data))
    compare(made, "numba", way)


# What runs of one program have to do with each other ------------------------------------------------------------------

SOURCES = ["numpy", pytest.param("numba", marks=needs_numba)]
STEPS = {  # y, the next state
    "rnn": "tg.tanh(x @ w + h), tg.tanh(x @ w + h)", "gated": "tg.sigmoid(x @ w) * h, h + tg.sigmoid(h @ w) * (x - h)",
    "y-is-x": "x, tg.tanh(x * h @ w)", "state-is-x": "h @ w, x", "y-is-h": "h, x * h + w[0]",
    "slice": "x[:, :2] @ w[:2], x + h",
    "state-stays": "tg.tanh(x @ w + h), h",
}  # fmt: skip


def step_of(text: str, **weights):
    space = {"tg": tg, "np": np, "__name__": "steps", **weights}
    exec(f"def step(x, h):\n    return {text}", space)
    return space["step"]


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def results_of(step, w, mode, seed, walks=1):
    """Outputs, and the gradients of as many walks over the same entry."""
    x, h = [tg.tensor(normal(*shape, seed=seed), requires_grad=True) for shape in ((6, 2, 3), (2, 3))]
    y, last = tg.scan(step, x, h, compiled=mode)
    loss = (y * normal(*y.shape, seed=seed)).sum() + (last * last).sum()
    found = [g for _ in range(walks) for g in tg.gradients(loss, [x, h, w], retain_graph=True)]
    return [a.data for a in (y, last, *found)], [a.data for a in (x, h, w)]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", STEPS)
def test_results_are_the_users_own(name, source):
    """No later run writes into them, none shares memory with another, or with what was given."""
    w = tg.tensor(normal(3, 3) * 0.5, requires_grad=True)
    step, kept = step_of(STEPS[name], w=w), []
    for seed in range(5):
        results, given = results_of(step, w, source, seed, walks=2)
        expected, _ = results_of(step, w, False, seed, walks=2)
        for a, b in zip(expected, results, strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-12)
        stays = [1] if name == "state-stays" else []  # the last state is the first, on the tape, too
        for i, a in enumerate(results):
            others = [b for b, _ in kept] + results[:i] + (given if i not in stays else [])
            assert not any(np.shares_memory(a, b) for b in others), i
        kept += [(a, a.copy()) for i, a in enumerate(results) if i not in stays]
        for a, b in kept:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("source", SOURCES)
def test_threads_have_arrays_of_their_own(source):
    w = tg.tensor(normal(3, 3) * 0.5, requires_grad=True)
    step, errors = step_of(STEPS["gated"], w=w), []
    expected = [results_of(step, w, False, seed)[0] for seed in range(4)]
    results_of(step, w, source, 0)

    def work(seed):
        try:
            for _ in range(30):
                for a, b in zip(expected[seed], results_of(step, w, source, seed)[0], strict=True):
                    np.testing.assert_allclose(b, a, rtol=0, atol=1e-12)
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors


NOT_FINITE = {
    "gated": "h, h * tg.sigmoid(x @ w) + (1 - tg.sigmoid(x @ w)) * tg.tanh(h @ w)", "relu": "h, tg.relu(x + h @ w)",
    "where": "h, tg.where(x > 0, tg.tanh(h @ w), x)", "maximum": "tg.max(h, -1), tg.maximum(x, tg.tanh(h @ w))",
    "clip": "h, tg.clip(x + h @ w, -1, 1)", "absolute": "h, abs(x) * 0.3 + abs(h @ w) * 0.3",
    "softmax": "h, tg.softmax(x + h @ w)", "logsumexp": "h, x + tg.logsumexp(h @ w, -1, keepdims=True)",
    "missing": "h, tg.where(tg.isnan(x), h, tg.tanh(x + h @ w))", "sqrt": "h, tg.sqrt(abs(x + h @ w))",
    "divide": "h, x / (1 + h * h) + h @ w", "norm": "h, (h @ w) / tg.norm(x + h, axis=-1, keepdims=True)",
    "minus": "h, h - h * tg.sigmoid(x) + x @ w",
}  # fmt: skip


@pytest.mark.parametrize("source", ["numpy", pytest.param("numba", marks=[needs_numba, pytest.mark.slow])])
@pytest.mark.parametrize("name", NOT_FINITE)
def test_what_is_not_finite_stays_where_the_tape_has_it(name, source):
    """In x, the state, a weight, and the gradient that comes in.

    (That is one of all steps: where the tape has none a program has zeros, and zero times infinity is no number.)
    """
    for bad in (np.nan, np.inf, -np.inf):
        for place in range(4):
            arrays = [normal(5, 2, 3), normal(2, 3), normal(3, 3) * 0.5, normal(5, 2, 3, seed=1)]
            arrays[place].flat[1] = bad
            results = []
            for mode in (False, source):
                x, h, w = [tg.tensor(a, requires_grad=True) for a in arrays[:3]]
                with np.errstate(all="ignore"):
                    y, last = tg.scan(step_of(NOT_FINITE[name], w=w), x, h, compiled=mode)
                    g = arrays[3][:, :, 0] if y.ndim == 2 else arrays[3]
                    found = tg.gradients((y * g).sum() + (last * arrays[3][0]).sum(), [x, h, w])
                results.append([a.data for a in (y, last, *found)])
            for a, b in zip(*results, strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12, err_msg=f"{bad} in {place}")
