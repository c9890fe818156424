"""The tests can fail: every rule is spoiled in turn, and the engine is given bugs, and each time a check must notice.

Tools that change source text reach neither decorated functions nor lambdas, which is what the rules are: so they are
spoiled here. A rule whose spoiling nobody notices fails with the name of the rule.
"""

import functools
import gc
import inspect
import sys
from collections.abc import Callable

import numpy as np
import pytest
from oracle import compare
from registry import SPECS
from running import leaf
from strategies import Source
from test_ops_grad import DIFFERENTIABLE, check_gradient, check_second_order, check_walks, some_wanted, start
from test_ops_special import test_dtypes_and_devices_are_kept_apart as check_casts
from test_ops_special import test_point as check_point

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.ops import elementwise, indexing, linear, reduction, shape

recording, tape = sys.modules["tinygrad_rnn.recording"], sys.modules["tinygrad_rnn.tape"]  # tg.tape is the function
SEEDS = range(12)


def judged(name: str, check: Callable = check_gradient, seeds=SEEDS) -> None:
    """An entry of the table checked, on a few examples that are always the same."""
    for seed in seeds:
        s = Source.seeded(seed)
        arrays, keywords = SPECS[name].draw(s)
        check(SPECS[name], arrays, keywords, s)


def points(name: str) -> None:
    for row in SPECS[name].special:
        check_point(SPECS[name], row, False)


# Rules ----------------------------------------------------------------------------------------------------------------

PRIMITIVES = {}
for _module in (ops.activation, elementwise, indexing, linear, reduction, shape):
    for _function in vars(_module).values():
        if isinstance(op := getattr(_function, "op", None), tg.Primitive):
            PRIMITIVES[op] = f"{_function.__module__.split('.')[-1]}.{op.forward.__name__}"


def each(change: Callable) -> Callable:
    return lambda ds, g: tuple(change(d, g) for d in ds) if isinstance(ds, tuple) else change(ds, g)


SPOILED = {
    "scaled": each(lambda d, g: d * 1.001),
    "negated": each(lambda d, g: -d),
    "leaking": each(lambda d, g: d + 0.001),
}
RULES = [
    pytest.param(op, i, kind, id=f"{name}-{op.inputs[i]}-{kind}")
    for op, name in PRIMITIVES.items()
    for i, rule in enumerate(op.rules)
    for kind in SPOILED
    if rule is not None and not (rule is elementwise._zero and kind != "leaking")
]


@pytest.fixture(scope="module")
def users():
    """For each primitive, the entries of the table that leave it on their tape: its own first."""
    found = {op: [] for op in PRIMITIVES}
    for name, spec in DIFFERENTIABLE.items():
        for seed in SEEDS:
            s = Source.seeded(seed)
            arrays, keywords = spec.draw(s)
            if wanted := some_wanted(spec, arrays, s):
                _, y = start(spec, arrays, keywords, wanted)
                for node in tape.reached(y.node):
                    if node.op in found and name not in found[node.op]:
                        found[node.op].append(name)
    for op, names in found.items():
        names.sort(key=lambda name: name.split(".")[-1] != op.name.split(".")[-1])
    return found


def caught(names: list[str]) -> bool:
    for name in names:
        try:
            judged(name)
        except (AssertionError, ValueError):
            return True
    return False


def register(monkeypatch, op, i: int, rule: Callable) -> None:
    """Another rule for input i, until the end of the test."""
    for name in ("rules", "needs", "kept", "kept_inputs", "keep", "pull", "lift"):
        monkeypatch.setattr(op, name, getattr(op, name))
    op.vjp(*op.rules[:i], rule, *op.rules[i + 1 :])


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_what_is_right_passes(name):
    judged(name)


@pytest.mark.parametrize(("op", "i", "kind"), RULES)
def test_every_rule_is_proved(op, i, kind, users, monkeypatch):
    right, spoil = op.rules[i], SPOILED[kind]
    register(monkeypatch, op, i, functools.wraps(right)(lambda g, *kept: spoil(right(g, *kept), g)))
    assert caught(users[op]), f"rule {i} of {op.name} may be {kind}, and no gradient check of the table notices"


@pytest.mark.parametrize("op", [pytest.param(op, id=name) for op, name in PRIMITIVES.items() if len(op.inputs) == 2])
def test_the_rules_of_two_inputs_are_told_apart(op, users, monkeypatch):
    if op.name in ("add", "floor_divide"):
        pytest.skip("its rules are the same")
    first, second = op.rules
    register(monkeypatch, op, 0, second)
    register(monkeypatch, op, 1, first)
    assert caught(users[op]), f"the rules of {op.name} may be swapped, and no gradient check of the table notices"


# The engine -----------------------------------------------------------------------------------------------------------


def variable(*shape_: int) -> tg.Tensor:
    return leaf(np.random.default_rng(0).uniform(0.5, 2, shape_))


def diamond():
    """An entry used again before and after others: it must wait until all gradients have arrived."""
    x = variable(3)
    a = tg.exp(x)
    b = a * a
    c = tg.tanh(b) + a
    (c * b + a).sum().backward()
    e, t = np.exp(x._data), np.tanh(np.exp(2 * x._data))
    da = 1 + (1 + 2 * e * (1 - t * t)) * e * e + (t + e) * 2 * e
    compare(x.grad._data, e * da)


def fan_out():
    """An entry used eight times."""
    x = variable(3)
    y = x * 1
    sum((y * float(k) for k in range(1, 9)), y).sum().backward()
    compare(x.grad._data, np.full(3, 37.0))


def siblings():
    """Gradients that are passed on as they are, and summed for one of two that hold them."""
    x, y = variable(3), variable(3)
    a, b = x * 2.0, y * 3.0
    ((x + y) + (a + b)).sum().backward()
    compare(x.grad._data, np.full(3, 3.0))
    compare(y.grad._data, np.full(3, 4.0))


def intermediate():
    """The gradients of a computed tensor and of what it was computed from."""
    x = variable(3)
    y = x * 2.0
    dx, dy = tg.gradients((y * y).sum(), [x, y])
    compare(dy._data, 2 * y._data)
    compare(dx._data, 4 * y._data)


def unused_outputs():
    x = variable(6)
    tg.split(x, 3)[1].sum().backward()
    compare(x.grad._data, np.array([0.0, 0, 1, 1, 0, 0]))


def twice():
    """The tape is freed as it is walked, unless it is retained."""
    x = variable(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    compare(x.grad._data, 4 * x._data)
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def modes():
    x = variable(3)
    with tg.no_grad():
        assert not (x * x).requires_grad
    assert not (x.detach() * 2).requires_grad


def operands_are_copied():
    """An array that is no tensor may be changed by its owner after the call."""
    x, a, index = variable(3), np.ones(3), np.array([0, 1])
    y = (x * a).sum() + x[index].sum()
    a[:] = 100
    index[:] = 2
    y.backward()
    compare(x.grad._data, np.array([2.0, 2, 1]))


def nothing_stays():
    """Without the cyclic collector, what was computed is freed when nobody holds it."""
    import weakref

    enabled = gc.isenabled()
    gc.disable()
    try:
        x = variable(3)
        y = tg.tanh(x * x)
        entries = [weakref.ref(node) for node in tape.reached(y.node)[1:]]
        y.sum().backward()
        del y
        assert all(entry() is None for entry in entries)
    finally:
        if enabled:
            gc.enable()


CHECKS = [diamond, fan_out, siblings, intermediate, unused_outputs, twice, modes, operands_are_copied, nothing_stays]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_engine(check):
    check()


def rewritten(owner, name: str, old: str, new: str) -> Callable:
    """A bug made by changing a line of the engine."""

    def install(monkeypatch) -> None:
        function = getattr(owner, name)
        source = inspect.getsource(function)
        assert source.count(old) == 1, f"{name} has changed: bring this bug up to date with it"
        scope: dict = {}
        exec("from __future__ import annotations\n" + source.replace(old, new), vars(owner), scope)
        monkeypatch.setattr(owner, name, scope[name])
        if owner is tape and name == "backward":
            monkeypatch.setattr(sys.modules["tinygrad_rnn.tensor"], name, scope[name])

    return install


def replaced(owner, name: str, new: Callable) -> Callable:
    return lambda monkeypatch: monkeypatch.setattr(owner, name, new)


def ruled(function: Callable, new: Callable, i: int = 0) -> Callable:
    """A bug in a rule."""
    return lambda monkeypatch: register(monkeypatch, function.op, i, new)


def drop_leading(d, parent):
    return d[(0,) * (d.ndim - len(parent.shape))].astype(parent.dtype)


def drop_ones(d, parent):
    d = d.sum(tuple(range(d.ndim - len(parent.shape))))
    return d[tuple([slice(0, 1) if n == 1 else slice(None) for n in parent.shape])].astype(parent.dtype)


def wrong_axes(d, parent):
    extra = d.ndim - len(parent.shape)
    axes = [i for i, n in enumerate(d.shape) if i < extra or n != parent.shape[i - extra]]
    for i in axes:
        d = d.sum(min(i, d.ndim - 1))  # the axes move up after the first
    return np.resize(d, parent.shape).astype(parent.dtype)


BUGS = {
    "unb_lead: leading axes are not summed": (replaced(tape, "fitted", drop_leading), lambda: judged("add")),
    "unb_ones: axes of length 1 are not summed": (replaced(tape, "fitted", drop_ones), lambda: judged("add")),
    "unb_axis: the wrong axes are summed": (
        replaced(tape, "fitted", wrong_axes),
        lambda: judged("add", seeds=range(150)),
    ),
    "cast: a gradient keeps the dtype of the rule": (
        rewritten(tape, "fitted", "d if d.dtype == parent.dtype else d.astype(parent.dtype)", "d"),
        check_casts,
    ),
    "dfs_order: entries are not walked last to first": (
        rewritten(
            tape,
            "reached",
            'found.sort(key=attrgetter("position"))',
            "found.sort(key=lambda node: (node is root, -node.position * bool(node.parents)))",
        ),
        diamond,
    ),
    "overwrite: the last gradient wins": (
        rewritten(tape, "walk", "grads[parent] = so_far + d", "grads[parent] = d"),
        diamond,
    ),
    "fan_out: only two gradients are summed": (rewritten(tape, "walk", "grads[parent] += d", "pass"), fan_out),
    "alias: added into an array that others hold": (
        rewritten(tape, "walk", "elif parent in owned:", "elif True:"),
        siblings,
    ),
    "float32: the walk is in single precision": (
        rewritten(tape, "walk", "op.pull(g,", 'op.pull(g.astype("f4").astype("f8"),'),
        lambda: judged("multiply"),
    ),
    "through: an input that others come before ends the walk": (
        rewritten(tape, "walk", "if op is None or useful.isdisjoint(parents):", "if True:"),
        intermediate,
    ),
    "never_freed": (rewritten(tape, "walk", "if not retain:", "if False:"), twice),
    "always_freed": (rewritten(tape, "walk", "if not retain:", "if True:"), lambda: judged("tanh", check_walks)),
    "unused: outputs that nobody used get a gradient": (
        rewritten(tape, "filled", "np.zeros_like", "np.ones_like"),
        unused_outputs,
    ),
    "no_grad is ignored": (rewritten(recording, "finish", "record if mode.records else evaluate", "record"), modes),
    "detach_leak": (replaced(tg.Tensor, "detach", lambda self: tg.Tensor(self._data, self.node)), modes),
    "shared: a gradient is the cotangent itself": (
        replaced(tape, "given", lambda g, owned: g if isinstance(g, tg.Tensor) else tg.Tensor(tape.to_array(g))),
        lambda: judged("positive", check_walks),
    ),
    "not_copied: the tape keeps the user's own array": (
        replaced(recording, "private", lambda value: value),
        operands_are_copied,
    ),
    "constants: what a rule kept is not on the tape again": (
        rewritten(tape, "walk", "op.lift(node.kept, node, node.parents) if create_graph else node.kept", "node.kept"),
        lambda: judged("multiply", check_second_order),
    ),
    "grad: backward overwrites .grad": (
        rewritten(tape, "backward", "if leaf.grad is not None:", "if False:"),
        lambda: judged("tanh", check_walks),
    ),
    "take_dup: a place that is taken twice gets one gradient": (
        replaced(indexing, "may_repeat", lambda index: False),
        lambda: points("getitem"),
    ),
    "negative axes are taken for others": (
        replaced(
            reduction,
            "axes_of",
            lambda axis, ndim: tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,),
        ),
        lambda: judged("sum"),
    ),
    "mean: divided by the first axis": (
        replaced(reduction, "length", lambda shape, *_: shape[0] if shape else 1),
        lambda: judged("mean"),
    ),
    "stack_neg: unstacked along the first axis": (
        ruled(shape._stack, lambda g, axis: shape.unstack(g, 0)),
        lambda: judged("stack"),
    ),
    "transpose: by the axes and not by their inverse": (
        ruled(shape.transpose, lambda g, axes: shape.transpose(g, axes)),
        lambda: judged("transpose", seeds=range(60)),
    ),
    "cumsum: from the first and not from the last": (
        ruled(reduction.cumsum, lambda g, in_shape, axis: reduction.cumsum(g, axis or 0).reshape(in_shape)),
        lambda: judged("cumsum"),
    ),
    "max: each of those that tie gets all": (
        ruled(
            reduction.max,
            lambda g, x, out, axis: np.where(
                x == reduction.expand(out, x.shape, axis), reduction.expand(g, x.shape, axis), 0
            ),
        ),
        lambda: points("max"),
    ),
    "prod: divides by what may be 0": (
        ruled(reduction.prod, lambda g, x, axis: reduction.expand(g * np.prod(x, axis), x.shape, axis) / x),
        lambda: points("prod"),
    ),
    "sqrt: a gradient of 0 becomes NaN": (
        ruled(elementwise.sqrt, lambda g, out: g / (2 * out)),
        lambda: points("sqrt"),
    ),
    "relu: 1 at 0": (ruled(ops.relu, lambda g, out: np.where(out < 0, 0, g)), lambda: points("relu")),
    "maximum: both get all at a tie": (
        ruled(elementwise.maximum, lambda g, a, b: np.where(a < b, 0, g)),
        lambda: points("maximum"),
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_bugs_are_noticed(name, monkeypatch):
    install, check = BUGS[name]
    check()
    install(monkeypatch)
    with np.errstate(all="ignore"), pytest.raises((Exception, pytest.fail.Exception)):
        check()
