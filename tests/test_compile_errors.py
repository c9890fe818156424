"""Compiled scans of steps that ask for trouble: the tape's numbers, or an error that says why there can be no program.

Each step is a line of Python, ``y, the next state``, of x and h, and of the arrays and functions of ``world()``.
"""

from __future__ import annotations

import importlib.util
import re
import threading

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.compile import Untraceable, scanning

needs_numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="needs numba")
SOURCES = ["numpy", pytest.param("numba", marks=[needs_numba, pytest.mark.slow])]
T, B, H = 7, 2, 3


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def weight(*shape, seed=1):
    return tg.tensor(numbers(*shape, seed=seed) * 0.5, requires_grad=True)


def cube(x):
    return x * x * x


def cube_by_numbers(x):
    out = np.empty_like(x)
    for i in np.ndindex(x.shape):
        out[i] = float(x[i]) ** 3
    return out


def world():
    """What the steps below refer to."""
    swapped = np.arange(1200)
    swapped[3:-3] = swapped[3:-3][::-1]
    return {
        "__name__": "steps", "np": np, "tg": tg, "W": weight(H, H), "U": weight(H, H, seed=2), "v": weight(H),
        "column": weight(H, 1), "row": weight(1, H), "wide": weight(1, 2 * H), "one": weight(1, 1),
        "strided": tg.tensor(numbers(2 * H, 2 * H)[::2, ::2], requires_grad=True),
        "fortran": tg.tensor(np.asfortranarray(numbers(H, H)), requires_grad=True),
        "infinite": tg.tensor(np.array([[0.0, np.inf, 1.0]] * 3), requires_grad=True),
        "long_1": weight(1200), "long_2": weight(1200, seed=2), "order": np.arange(1200), "swapped": swapped,
        "cube": tg.primitive(cube).vjp(lambda g, x: 3 * g * x * x),
        "cube_by_numbers": tg.primitive(cube_by_numbers).vjp(lambda g, x: 3 * g * x * x),
        "where": tg.where, "clip": tg.clip, "locked": threading.Lock(), "rng": np.random.default_rng(5),
    }  # fmt: skip


def step_of(text: str, space: dict, name: str = "step") -> object:
    """A function step(x, h) with that last line, and others before it."""
    *before, last = text.split("; ")
    lines = [f"def {name}(x, h):", *before, f"return {last}"]
    exec(compile("\n    ".join(lines), f"{name}.py", "exec"), space)
    return space[name]


def outcome(step, space: dict, xs, state: tuple, compiled, **options) -> list:
    """The outputs and the last state, and the gradients of all there is: None where there is none."""
    given = [tg.tensor(a, requires_grad=np.asarray(a).dtype.kind == "f") for a in (xs, *state)]
    weights = [w for w in space.values() if isinstance(w, tg.Tensor) and w.requires_grad]
    for w in weights:
        w.grad = None
    with np.errstate(all="ignore"):
        state = tuple(given[1:]) if len(state) > 1 else given[1]
        y, last, *every = tg.scan(step, given[0], state, compiled=compiled, **options)
        outs = [y, *(last if isinstance(last, tuple) else [last])]
        for tree in every:
            outs += tree if isinstance(tree, tuple) else [tree]
        losses = [(o * numbers(*o.shape, seed=i + 7)).sum() for i, o in enumerate(outs) if o.requires_grad]
        if losses:
            sum(losses[1:], losses[0]).backward()
    gradients = [getattr(w.grad, "_data", w.grad) for w in [*given, *weights]]
    return [o.data for o in outs] + gradients


def same(expected: list, got: list, rtol=1e-11, atol=1e-12) -> None:
    for a, b in zip(expected, got, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_allclose(b, a, rtol=rtol, atol=atol)


STEPS = {  # y, the next state; then the shape of x, and those of the states, where they are not (2, 3)
    # States that no step changes, or that know nothing of x
    "plain": ("tg.tanh(x @ W + h @ U), tg.tanh(x @ W + h @ U)",),
    "state-stays": ("x * h, h",),
    "state-stays-unbatched": ("tg.tanh(x + h + v), h", (H,), (H,)),
    "state-is-x": ("x * 2, x",),
    "state-is-a-product-of-weights": ("x + h, W @ U", (H, H), (H, H)),
    "state-is-a-sum": ("x + h, W.sum(axis=0, keepdims=True)", (1, H), (1, H)),
    "state-is-a-sum-0d": ("x * h, W.sum()", (1, H), ()),
    "state-is-ones": ("x * h, tg.tensor(np.ones((2, 3)))",),
    "state-is-taken": ("x * h, tg.take(W, [0, 1], axis=0)",),
    "states-swapped": ("h[0], (h[1], tg.tanh(x + h[0]))", (B, H), (B, H), (B, H)),
    "states-swapped-forever": ("h[0] * x, (h[1], h[0])", (B, H), (B, H), (B, H)),
    "states-unused": ("h[0], (tg.tanh(h[0]), h[1] + 1, h[2])", (B, H), (B, H), (B, H), (B, H)),
    "state-chained": ("h[1], (tg.tanh(h[0] @ W), tg.tanh(h[0] @ U + h[1] @ W + x))", (B, H), (1, H), (B, H)),
    "state-0d": ("x * h[0], (tg.tanh(h[0] + x.mean()), h[1] * h[0])", (B, H), (), ()),
    "all-0d": ("x * h, tg.tanh(h + x)", (), ()),
    # Outputs
    "y-is-x": ("x, tg.tanh(x + h)",),
    "y-is-h": ("h, tg.tanh(x + h)",),
    "y-is-constant": ("tg.tensor(np.ones(2)), tg.tanh(x + h)",),
    "y-ignores-the-state": ("x * 2, tg.tanh(x + h)",),
    "y-is-0d": ("tg.sum(x), tg.tanh(x + h)",),
    # Broadcasting, and shapes of one
    "one-column": ("tg.tanh(x @ one + h @ one), tg.tanh(h @ one + x)", (B, 1), (B, 1)),
    "one-by-one": ("tg.tanh(x @ one + h @ one), tg.tanh(h @ one + x)", (1, 1), (1, 1)),
    "one-row": ("tg.tanh(x @ W + h @ W), tg.tanh(h @ W + x)", (1, H), (1, H)),
    "rank-one": ("h, tg.tanh(tg.tanh(h @ column) @ row + x)",),
    "halves": ("h, tg.tanh(wide[:, :3] + h * wide[:, 3:] + x)",),
    "halves-summed": ("h, tg.tanh(wide[0, :3] + (h * wide[0, 3:]).sum(0, keepdims=True) + x)",),
    "unbatched": ("h, tg.tanh(W @ h + x)", (H,), (H,)),
    "inner": ("h, tg.tanh((h @ x) * W[0] + h)", (H,), (H,)),
    "reduced-0d": ("tg.max(h[1], -1) + tg.logsumexp(h[1], 0) + tg.softmax(h[1]), "
                   "(tg.tanh(x + h[0]), tg.mean(x) * h[1])", (B, H), (B, H), ()),
    "index-0d": ("x * tg.norm(h[0], axis=-1), "
                 "(tg.tanh(0.5 * h[0] + h[1].sum()), tg.tanh(0.9 * h[1] + tg.norm(h[0] + 1, axis=-1)))",
                 (H,), (H,), (H,)),
    "constant-0d": ("h, tg.tanh(0.5 * h + tg.mean(W))",),
    "detached-0d": ("x, (tg.tanh(0.9 * h[0] + tg.sin(v[0]) * h[1]), tg.tensor(h[1].data))", (B, H), (B, H), ()),
    "detached": ("x + h, tg.tensor(h.data)",),
    # Products of three axes; views that outlive what they are of; a column negated in place
    "two-products": ("h ** 2 @ W @ column, h ** 2", (B, H), (2, B, H)),
    "products-broadcast": ("tg.tanh(((W[:2] - x @ h) @ (x @ h)[..., None])[..., 0]), h", (2, H), (2, H, H)),
    "views": ("tg.einsum('bi,bi->b', x, tg.maximum(h, x))[:, None], h", (1, 1), (3, 1)),
    "column-negated": ("tg.relu(h[1]) * tg.sigmoid(h[0]) + (1 - tg.sigmoid(h[0])) * tg.tanh(tg.relu(h[1])), "
                       "(tg.broadcast_to(tg.mean(tg.relu(h[1]) @ wide[:, :4]), (2, 1)), "
                       "tg.tanh(0.5 * h[1] + tg.mean(x)))",
                       (B, 4), (B, 1), (B, 1)),
    # Layouts
    "strided-weight": ("h, tg.tanh(h @ strided + x)",),
    "fortran-weight": ("h, tg.tanh(h @ fortran + x)",),
    # What is not finite
    "products-of-two-widths": ("h, tg.tanh(h @ W + tg.tanh(h) @ column)",),
    "no-features": ("h, tg.tanh(x @ W[:0] + h)", (B, 0), (B, H)),
    "bare-name-of-an-operation": ("h, tg.tanh(x + where(h > 0, h, 0) + clip(h, -1, 1))",),
    "infinite-weight": ("h, tg.tanh(h @ infinite + x)",),
    "z-minus-zf": ("h, h - h * tg.sigmoid(h) + x",),
    # Functions that are called as they are
    "index": ("tg.tanh(x + h + v[[1, 0, 2]]), x * h[..., [2, 0, 1]]",),
    "long-permutations": ("tg.sin(h)[order] + tg.cos(h)[swapped], 0.9 * h + x", (1200,), (1200,)),
    "long-weights": ("tg.tanh(x + h + long_1[order] * long_2[swapped]), h", (1200,), (1200,)),
    "long-takes": ("tg.take(tg.sin(h), order, -1) + tg.take(tg.cos(h), swapped, -1), 0.9 * h + x", (1200,), (1200,)),
    "inv": ("h, tg.inv(0.1 * x + 3 * np.eye(3) + 0.1 * tg.tanh(h))", (H, H), (H, H)),
    "solve": ("h, tg.solve(0.1 * x + 3 * np.eye(3), h)", (H, H), (H, H)),
    "cholesky": ("h, tg.cholesky(h @ h.T + 3 * np.eye(3)) * 0.2 + x", (H, H), (H, H)),
    "sorted": ("h, tg.tanh(x + h) * tg.tensor(np.sort(h.data, -1))",),
    "cumsum": ("h, tg.tanh(x + tg.cumsum(h, -1))",),
    "cumprod": ("h, tg.tanh(x + tg.cumprod(h, -1))",),
    "own-primitive": ("h, tg.tanh(cube(h) + x)",),
    "own-primitive-by-numbers": ("h, tg.tanh(cube_by_numbers(h) + x)",),
    # Reductions, joins, views
    "moments": ("tg.std(h, -1) + tg.norm(h, axis=-1) + tg.var(h, (0,)).sum(), "
                "(x + h - tg.mean(h, -1, keepdims=True)) / tg.sqrt(tg.var(h, -1, keepdims=True) + 1e-3)",),
    "extremes": ("tg.max(h, -1) - tg.min(x + h, -1), tg.tanh(x + h) * tg.max(h, axis=0, keepdims=True)",),
    "softmax": ("tg.softmax(h, 0) + tg.logsumexp(h, -1, keepdims=True), tg.softmax(x + h)",),
    "joined": ("tg.concatenate([h, x], -1), tg.concatenate(tg.split(tg.tanh(h + x), 3, -1)[::-1], -1)",),
    "moved": ("tg.tile(h, (1, 2)) + tg.repeat(x, 2, axis=-1), "
              "tg.tanh(tg.roll(h, 1, -1) + tg.flip(x, -1) + tg.pad(h[..., 1:], ((0, 0), (1, 0))) + tg.tril(h))",),
    "set": ("h, tg.tanh(x + h).at[..., 0].set(x[..., 1])",),
    "set-slice": ("h, (x + h).at[..., :1].set(x[..., 1:2])",),
    "added": ("h, tg.tanh(x + h).at[..., [0, 0, 1]].add(h)",),
    "heads": ("h.reshape(2, 2, 2).swapaxes(1, 2), tg.tanh((h.reshape(2, 2, 2) @ x.reshape(2, 2, 2)).reshape(2, 4))",
              (2, 4), (2, 4)),
    "fast-weights": ("(h[0] @ h[1][..., None])[..., 0], (0.9 * h[0] + tg.einsum('bi,bj->bij', h[1], x), "
                     "tg.tanh(x + (h[0] @ x[..., None])[..., 0]))", (B, H), (B, H, H), (B, H)),
    "chosen": ("np.tanh(h), np.where(x.data > 0, np.tanh(x + h), np.maximum(h, x))",),
    "kinks": ("tg.clip(h, -0.3, 0.3), abs(h) * tg.sign(x) + tg.relu(h) - tg.leaky_relu(x)",),
    # dtypes
    "float32-out-of-float64": ("h.astype(np.float32), tg.tanh(0.1 * h + x)",),
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", STEPS)
def test_a_step_computes_what_the_tape_does(name, source):
    text, *shapes = STEPS[name]
    shapes = shapes or [(B, H), (B, H)]
    step = step_of(text, space := world())
    given = numbers(T, *shapes[0]), tuple(numbers(*shape, seed=i) for i, shape in enumerate(shapes[1:], 3))
    expected = outcome(step, space, *given, False)
    same(expected, outcome(step, space, *given, source))
    same(expected, outcome(step, space, *given, source))  # by the arrays of a pool


INTEGERS = {
    "counts-down": "h[1], (h[0] - h[0] * (h[0] > 3).astype(np.int64), tg.tanh(x + h[1]))",
    "counts-chosen": "k = tg.tensor((x.data > 0).astype(np.int64)); "
                     "h[1], (h[0] - h[0] * k + 1, tg.tanh(x + h[1]) * h[0])",
    "stays": "h[1], (h[0], tg.tanh(x + h[1]))",
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", INTEGERS)
def test_states_of_integers(name, source):
    step = step_of(INTEGERS[name], space := world())
    given = numbers(T, B, H), (np.arange(B * H).reshape(B, H), numbers(B, H))
    same(outcome(step, space, *given, False), outcome(step, space, *given, source))


@pytest.mark.parametrize("source", SOURCES)
def test_inputs_of_integers(source):
    step = step_of("h, tg.tanh(h + tg.take(W, x, axis=0))", space := world())
    given = np.random.default_rng(0).integers(0, H, (T, B)), (numbers(B, H),)
    same(outcome(step, space, *given, False), outcome(step, space, *given, source))


@pytest.mark.parametrize("source", SOURCES)
def test_gradients_of_what_is_infinite(source):
    step, xs = step_of("h, (1 - x) * h", space := world()), np.where(numbers(T, B, H) > 0, 0.0, np.inf)
    same(outcome(step, space, xs, (numbers(B, H),), False), outcome(step, space, xs, (numbers(B, H),), source))


# What a step refers to may change between two scans -----------------------------------------------------------------

CHANGES = {  # what there is beforehand; what a step adds to x; what happens then
    "global": ("gain = 1.0", "gain * h", "gain = 2.0"),
    "default": ("def f(z, k=1.0): return z * k", "f(h)", "f.__defaults__ = (3.0,)"),
    "second-default": ("def f(z, k=1.0): return z * k\ndef g(z, k=1.0): return z * k", "g(f(h))",
                       "g.__defaults__ = (3.0,)"),
    "keyword-default": ("def f(z, *, k=1.0): return z * k", "f(h)", "f.__kwdefaults__ = {'k': 3.0}"),
    "module": ("import types; settings = types.ModuleType('settings'); settings.gain = 1.0", "settings.gain * h",
               "settings.gain = 2.0"),
    "class": ("class C: gain = 1.0", "C.gain * h", "C.gain = 2.0"),
    "tuple-of-class": ("class C: gains = 1.0, 2.0\nc = C()", "c.gains[0] * h", "C.gains = 3.0, 1.0"),
    "array-of-class": ("class C: gains = np.ones(3)\nc = C()", "c.gains * h", "C.gains = np.full(3, 2.0)"),
    "static-method": ("class C:\n    @staticmethod\n    def f(z): return tg.tanh(z)\nc = C()", "c.f(h)",
                      "C.f = staticmethod(lambda z: tg.sin(z))"),
    "property": ("class K: k = 1.0\nclass C:\n    k = property(lambda self: K.k)\nc = C()", "c.k * h", "K.k = 3.0"),
    "dict": ("d = {'k': 1.0}", "d['k'] * h", "d['k'] = 2.0"),
    "array-of-module": ("import types; settings = types.ModuleType('settings'); settings.gain = np.ones(3)",
                        "settings.gain * h", "settings.gain = np.full(3, 2.0)"),
    "odd-keys": ("d = {'a b': np.ones(3), 'lambda': np.ones(3), '': np.ones(3), 2: np.ones(3)}",
                 "d['a b'] * d['lambda'] * d[''] * d[2] * h", "d['a b'] = np.full(3, 2.0)"),
    "dataclass": ("import dataclasses as c\nD = c.make_dataclass('D', ['k', ('n', float, 1.0)])\nd = D(np.ones(3))",
                  "d.k * d.n * h", "d.k = np.full(3, 2.0)"),
    "array-in-place": ("k = np.ones(3)", "k * h", "k[:] = 2"),
    "array-of-class-in-place": ("class C: gains = np.ones(3)\nc = C()", "c.gains * h", "C.gains[:] = 2"),
    "array-in-a-method": ("k = np.ones(3)\nclass C:\n    def f(self, z): return z * k\nc = C()", "c.f(h)",
                          "k = np.full(3, 2.0)"),
    "condition-in-a-method": ("k = np.ones(3, bool)\nclass C:\n    def f(self, z): return tg.where(k, z, 0)\nc = C()",
                              "c.f(h)", "k = np.array([True, False, True])"),
    "index-in-a-method": ("k = np.arange(3)\nclass C:\n    def f(self, z): return z[..., k]\nc = C()", "c.f(h)",
                          "k = np.array([2, 0, 1])"),
    "tensor-of-class": ("class C: gain = tg.tensor(2.0, requires_grad=True)\nc = C()", "c.gain * h",
                        "C.gain = tg.tensor(3.0, requires_grad=True)"),
    "tensor": ("k = tg.tensor(2.0)", "k * h", "k.data = np.array(3.0)"),
    "data-of-a-parameter": ("k = tg.tensor(2.0, requires_grad=True)", "(k.data * 2) * h", "k.data = np.array(3.0)"),
    "mask-of-a-weight": ("", "h @ (W * (W.data > 0))", "W.data = -W.data"),
    "sum-of-a-weight": ("", "h * W.numpy().sum()", "W.data = 3 * W.data"),
    "inner-function": ("def make(k):\n    def f(z): return z * k[0]\n    return f\nk = [1.0]\nf = make(k)", "f(h)",
                       "k[0] = 2.0"),
    "getattr": ("class C:\n    def __getattr__(self, name): return getattr(K, name)\nclass K: k = 1.0\nc = C()",
                "c.k * h", "K.k = 2.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_program_knows_what_has_changed(name):
    before, term, change = CHANGES[name]
    exec(before, space := world())
    step = step_of(f"h = tg.tanh(x + {term}); h, h", space)
    given = numbers(T, B, H), (numbers(B, H),)
    for _ in range(2):  # a program of the second run's would hide that the first one's knows too little
        outcome(step, space, *given, "numpy")
    first = outcome(step, space, *given, False)
    exec(change, space)
    expected = outcome(step, space, *given, False)
    assert not np.array_equal(first[0], expected[0])
    same(expected, outcome(step, space, *given, "numpy"))


def test_a_cell_is_traced_once(monkeypatch):
    """And neither because its numbers change, nor the length of the sequence, nor the number of such cells."""
    traced = []
    monkeypatch.setattr(scanning, "made", lambda *args, make=scanning.made: traced.append(args) or make(*args))

    class Mine(tg.nn.Cell):
        gain = 1.0

        def __init__(self):
            self.state_size = H
            self.weight = tg.nn.Parameter(numbers(H, H))

        def step(self, x, h):
            h = tg.tanh(x + h @ self.weight * self.gain)
            return h, h

    cell = Mine()
    for run in range(4):
        tg.scan(cell, numbers(T + run, B, H), compiled="numpy")[0].sum().backward()
        cell.weight.data = numbers(H, H, seed=run)
    tg.scan(Mine(), numbers(T, B, H), compiled="numpy")
    assert len(traced) == 1
    cell.gain = 2.0
    tg.scan(cell, numbers(T, B, H), compiled="numpy")
    tg.scan(Mine(), numbers(T, B + 1, H), compiled="numpy")
    assert len(traced) == 3


DRAWN = {
    "normal": "h + rng.standard_normal(h.shape)", "several": "h * rng.random(h.shape) + rng.integers(0, 3, h.shape)",
    "permutation": "h * rng.permutation(3)", "permutation-as-an-index": "h[..., rng.permutation(3)]",
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_a_program_draws_what_the_tape_draws(name):
    results = []
    for compiled in (False, "numpy"):
        step = step_of(f"h = tg.tanh(x + {DRAWN[name]}); h, h", space := world())
        given = numbers(T, B, H), (numbers(B, H),)
        results.append([a for _ in range(3) for a in outcome(step, space, *given, compiled)])
    same(*results)
    assert not np.array_equal(results[0][0], results[0][len(results[0]) // 3])  # each time other ones


# What is refused ------------------------------------------------------------------------------------------------------

A_NUMBER = ("a number is asked for that is known only when the program runs (as by `if tensor`, float(tensor) or "
            "np.asarray(tensor))")  # fmt: skip
REMEMBERS = "the step changes an attribute, or a variable: what it remembers belongs into the state"
GLOBAL_DRAW = "random numbers are drawn from a global generator, and not from one that is an attribute"

REFUSED = {  # what there is beforehand; the step; why not
    "bool": ("", "k = h if W.sum() > 0 else -h; h, tg.tanh(x + k)", f"{A_NUMBER}, at step.py:2"),
    "float": ("", "h, tg.tanh(x + float(v.sum()) * h)", f"{A_NUMBER}, at step.py:2"),
    "item": ("", "h, tg.tanh(x + v[0].item() * h)", f"{A_NUMBER}, at step.py:2"),
    "assert": ("", "assert np.isfinite(h.data).all(); h, tg.tanh(x + h)", f"{A_NUMBER}, at step.py:2"),
    "branch-on-a-draw": ("", "h, tg.tanh(x + (h if rng.random() < 0.5 else -h))", f"{A_NUMBER}, at step.py:2"),
    "chosen-by-a-mask": ("", "h[h.data > 0].sum(), tg.tanh(x + h)",
                         "getitem returns arrays of a shape that depends on the numbers in it, at step.py:2"),
    "unique": ("", "h, tg.tanh(x + h) + np.unique(h.data).sum()",
               "unique returns arrays of a shape that depends on the numbers in it, at step.py:2"),
    "flatnonzero": ("", "h, x + h + np.flatnonzero(h.data > 0).sum()",
                    "flatnonzero returns arrays of a shape that depends on the numbers in it, at step.py:2"),
    "several-results": ("", "tg.slogdet(x + 3 * np.eye(3))[1] * h, tg.tanh(x + h)",
                        "slogdet returns tuple, and no array: that cannot be compiled, at step.py:2"),
    "global-draw": ("", "h, tg.tanh(x + h + np.random.randn(*h.shape))", GLOBAL_DRAW),
    "global-draw-of-python": ("import random", "h, tg.tanh(x + h * random.random())", GLOBAL_DRAW),
    "counter": ("n = 0", "global n; n += 1; h, tg.tanh(x + n * h)", REMEMBERS),
    "list": ("made = []", "made.append(h); h, tg.tanh(x + h)", REMEMBERS),
    "cache": ("cache = {}", "k = cache.setdefault('k', 2); h, tg.tanh(x + k * h)", REMEMBERS),
    "lock": ("", "k = locked; h, tg.tanh(x + h)",
             "locked is <unlocked _thread.lock object at 0x0>, and nobody can tell whether that changes"),
    "set": ("sizes = {1, 2}", "h, tg.tanh(x + len(sizes) * h)",
            "sizes is {1, 2}, and nobody can tell whether that changes"),
    "slots": ("class C: __slots__ = ('k',)\nc = C()\nc.k = 1.0", "h, tg.tanh(x + c.k * h)",
              "c is <steps.C object at 0x0>, and nobody can tell whether that changes"),
    "no-copy": ("class C:\n    k = 1.0\n    def __deepcopy__(self, memo): raise RuntimeError('no')\nc = C()",
                "h, tg.tanh(x + c.k * h)", "it cannot be copied: no"),
    "iterator": ("import itertools\nn = itertools.count()", "h, tg.tanh(x + next(n) * h)",
                 "n is count(0), and nobody can tell whether that changes"),
}  # fmt: skip


def refusal(step, space, given, **options) -> str:
    """The message, with whatever is at 0x0."""
    with pytest.raises(Untraceable) as error:
        outcome(step, space, *given, True, **options)
    assert isinstance(error.value, TypeError) and error.value.__cause__ is None
    return re.sub("0x[0-9a-f]+", "0x0", str(error.value))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why_and_auto_leaves_it_to_the_tape(name):
    before, text, why = REFUSED[name]
    exec(before, space := world())
    step = step_of(text, space)
    shape = (H, H) if name == "several-results" else (B, H)
    given = numbers(40, *shape), (numbers(*shape),)
    message = (f"step: it cannot be compiled, as {why}: leave it to the tape, compiled=False, or let compiled='auto' "
               "decide")  # fmt: skip
    assert refusal(step, space, given) == message
    assert refusal(step, space, given) == message  # what is known by now is said again
    results = []
    for compiled in (False, "auto"):
        np.random.seed(0)  # noqa: NPY002
        exec(f"rng = np.random.default_rng(0)\nimport random\nrandom.seed(0)\n{before}", space)
        results.append(outcome(step, space, *given, compiled))
    same(*results)


@pytest.mark.parametrize("mode", ["fast", None, 0, 1, "True", 2.0])
def test_a_mode_that_there_is_not(mode):
    message = f"compiled: expected one of 'auto', True, False, 'numpy', 'numba', got {mode!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        tg.scan(step_of("h, x + h", world()), numbers(T, B, H), numbers(B, H), compiled=mode)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        tg.compiled(mode)


def test_an_array_that_is_not_in_the_hosts_memory(xp):
    if xp is np:
        pytest.skip("it is, by NumPy")
    step = step_of("h, x + h", world())
    with pytest.raises(Untraceable, match=r"^step: it cannot be compiled, as .* is no array in the host's memory, and "
                                          r"programs are for these: leave it to the tape"):  # fmt: skip
        tg.scan(step, tg.tensor(xp.asarray(numbers(T, B, H))), tg.tensor(xp.asarray(numbers(B, H))), compiled=True)


def test_steps_that_somebody_watches_are_left_to_the_tape():
    step, given = step_of("h, x + h", world()), (numbers(T, B, H), numbers(B, H))
    with tg.anomaly(), pytest.raises(Untraceable) as error:
        tg.scan(step, *given, compiled=True)
    assert str(error.value) == ("step: it cannot be compiled, as somebody watches its steps: leave it to the tape, "
                                "compiled=False, or let compiled='auto' decide")  # fmt: skip
