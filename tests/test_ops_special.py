"""Exact points of every operation (kinks, ties, zeros, infinities, nothing at all), and pairs that must agree."""

import math
import warnings

import numpy as np
import pytest
from oracle import compare
from registry import SPECS, Number
from running import data, differentiable, joined, leaf, leaves, parts, pull

import tinygrad_rnn as tg

POINTS = [
    pytest.param(spec, row, id=f"{name}-{i}") for name, spec in SPECS.items() for i, row in enumerate(spec.special)
]


def as_input(value):
    return value.value if isinstance(value, Number) else value if hasattr(value, "dtype") else np.asarray(value, float)


@pytest.mark.parametrize("create_graph", [False, True], ids=["arrays", "recorded"])
@pytest.mark.parametrize(("spec", "row"), POINTS)
def test_point(spec, row, create_graph):
    """The value, and the gradients, by both ways that a rule runs: on arrays, and on tensors."""
    arrays = [as_input(x) for x in row.inputs]
    wanted = differentiable(spec, arrays)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = leaves(arrays, wanted)
        out = spec.fn(*inputs, **row.keywords)
        expected = row.value if isinstance(row.value, tuple) else (row.value,)
        for ours, theirs in zip(parts(out), expected, strict=True):
            theirs = theirs if getattr(theirs, "dtype", None) is not None else np.asarray(theirs, data(ours).dtype)
            compare(np.asarray(data(ours)), theirs, 1e-12, equal_nan=True, about="value")
        if not row.grads:
            return
        y = joined(out)
        g = np.ones(y.shape, y.dtype) if row.g is None else np.asarray(row.g, y.dtype).reshape(y.shape)
        gs = pull(y, [inputs[i] for i in wanted], g, create_graph=create_graph)
        expected = [row.grads[i] for i in wanted] if len(row.grads) == len(arrays) else row.grads
        for i, ours, theirs in zip(wanted, gs, expected, strict=True):
            if theirs is not None:
                ours = data(ours)
                open_ = np.array([x is None for x in np.ravel(np.asarray(theirs, object))]).reshape(np.shape(theirs))
                theirs = np.where(open_, ours, np.asarray(np.where(open_, 0, np.asarray(theirs, object)), float))
                compare(ours, theirs, 1e-12, equal_nan=True, about=f"gradient of input {i}")


# Pairs ----------------------------------------------------------------------------------------------------------------


def away(*shape):
    return lambda rng: rng.uniform(0.5, 2, shape)


def numbers(*shape):
    return lambda rng: rng.uniform(-2, 2, shape)


EYE = np.eye(5)
LOWER = np.tril(np.ones((4, 4)))
PLACES = [3, 0, 3, -1]
PAIRS = {
    "einsum = matmul": (lambda a, b: tg.einsum("ij,jk->ik", a, b), tg.matmul, numbers(3, 4), numbers(4, 2)),
    "einsum = batched matmul": (
        lambda a, b: tg.einsum("bij,bjk->bik", a, b),
        tg.matmul,
        numbers(2, 3, 4),
        numbers(2, 4, 2),
    ),
    "einsum = trace": (lambda a: tg.einsum("ii->", a), tg.trace, numbers(4, 4)),
    "einsum = diagonal": (lambda a: tg.einsum("iij->ji", a), tg.diagonal, numbers(3, 3, 2)),
    "einsum = outer": (lambda a, b: tg.einsum("i,j", a, b), tg.outer, numbers(3), numbers(4)),
    "einsum = transpose": (lambda a: tg.einsum("ijk->kij", a), lambda a: tg.transpose(a, (2, 0, 1)), numbers(2, 3, 4)),
    "einsum of three = two matmuls": (
        lambda a, b, c: tg.einsum("ij,jk,kl->il", a, b, c),
        lambda a, b, c: a @ b @ c,
        numbers(2, 3),
        numbers(3, 4),
        numbers(4, 2),
    ),
    "tensordot = einsum": (
        lambda a, b: tg.tensordot(a, b, ([0, 2], [1, 0])),
        lambda a, b: tg.einsum("ijk,kil->jl", a, b),
        numbers(2, 3, 4),
        numbers(4, 2, 3),
    ),
    "inner = matmul of the transpose": (tg.inner, lambda a, b: a @ b.T, numbers(2, 3), numbers(4, 3)),
    "dot = einsum": (tg.dot, lambda a, b: tg.einsum("ij,kjl->ikl", a, b), numbers(2, 3), numbers(4, 3, 2)),
    "matmul of a vector = of a matrix": (
        lambda a, b: a @ b,
        lambda a, b: (a @ b[:, None])[:, 0],
        numbers(3, 4),
        numbers(4),
    ),
    "matmul of stacks = one by one": (
        lambda a, b: a @ b,
        lambda a, b: tg.stack([x @ b for x in tg.unstack(a)]),
        numbers(3, 2, 4),
        numbers(4, 5),
    ),
    "solve = inv @": (
        tg.solve,
        lambda a, b: tg.inv(a) @ b,
        lambda rng: rng.uniform(-1, 1, (3, 3)) + 4 * np.eye(3),
        numbers(3, 2),
    ),
    "slogdet = cholesky": (
        lambda a: tg.slogdet(a @ a.T)[1],
        lambda a: 2 * tg.log(tg.diagonal(tg.cholesky(a @ a.T))).sum(),
        lambda rng: rng.uniform(-1, 1, (3, 3)) + 4 * np.eye(3),
    ),
    "mean = sum / n": (lambda x: tg.mean(x, (0, -1)), lambda x: tg.sum(x, (0, -1)) / 8, numbers(2, 3, 4)),
    "sum over a tuple = one after another": (lambda x: tg.sum(x, (0, 2)), lambda x: x.sum(2).sum(0), numbers(2, 3, 4)),
    "logsumexp = log of the sum of exp": (
        lambda x: tg.logsumexp(x, 1),
        lambda x: tg.log(tg.exp(x).sum(1)),
        numbers(3, 4),
    ),
    "softmax = exp of log_softmax": (tg.softmax, lambda x: tg.exp(tg.log_softmax(x)), numbers(3, 4)),
    "softmax by its formula": (lambda x: tg.softmax(x, (0, 1)), lambda x: tg.exp(x) / tg.exp(x).sum(), numbers(3, 4)),
    "log_softmax = x - logsumexp": (lambda x: tg.log_softmax(x, 0), lambda x: x - tg.logsumexp(x, 0), numbers(3, 4)),
    "var = mean of squares - square of mean": (
        lambda x: tg.var(x, 1),
        lambda x: (x * x).mean(1) - x.mean(1) ** 2,
        numbers(3, 4),
    ),
    "var with ddof": (lambda x: tg.var(x, 1, ddof=1), lambda x: tg.var(x, 1) * (4 / 3), numbers(3, 4)),
    "std = root of var": (lambda x: tg.std(x, 0), lambda x: tg.sqrt(tg.var(x, 0)), numbers(3, 4)),
    "norm = root of the sum of squares": (
        lambda x: tg.norm(x, axis=1),
        lambda x: tg.sqrt((x * x).sum(1)),
        numbers(3, 4),
    ),
    "norm of order 3": (lambda x: tg.norm(x, 3, 1), lambda x: (tg.absolute(x) ** 3).sum(1) ** (1 / 3), away(3, 4)),
    "norm of order 1 of a matrix": (lambda x: tg.norm(x, 1), lambda x: tg.max(tg.absolute(x).sum(0)), numbers(3, 4)),
    "prod = exp of the sum of log": (lambda x: tg.prod(x, 1), lambda x: tg.exp(tg.log(x).sum(1)), away(3, 4)),
    "cumprod = exp of cumsum of log": (
        lambda x: tg.cumprod(x, 1),
        lambda x: tg.exp(tg.cumsum(tg.log(x), 1)),
        away(3, 4),
    ),
    "cumsum = product with a triangle": (lambda x: tg.cumsum(x, 0), lambda x: tg.matmul(LOWER, x), numbers(4, 3)),
    "max = first of sorted": (
        lambda x: tg.max(x, 1),
        lambda x: tg.take_along_axis(x, tg.argmax(x, 1, keepdims=True), 1)[:, 0],
        numbers(3, 4),
    ),
    "min = -max(-x)": (lambda x: tg.min(x, 0), lambda x: -tg.max(-x, 0), numbers(3, 4)),
    "maximum = where": (tg.maximum, lambda a, b: tg.where(a > b, a, b), numbers(3, 4), numbers(4)),
    "maximum = max of a stack": (tg.maximum, lambda a, b: tg.max(tg.stack([a, b]), 0), numbers(3), numbers(3)),
    "minimum = max of a stack, at ties": (
        lambda a: tg.minimum(a, a),
        lambda a: tg.min(tg.stack([a, a]), 0),
        numbers(3),
    ),
    "clip = minimum of maximum": (
        lambda x: tg.clip(x, -1, 1),
        lambda x: tg.minimum(tg.maximum(x, -1), 1),
        numbers(3, 4),
    ),
    "relu = maximum": (tg.relu, lambda x: tg.maximum(x, 0), numbers(3, 4)),
    "leaky_relu of two relus": (
        lambda x: tg.leaky_relu(x, 0.1),
        lambda x: tg.relu(x) - 0.1 * tg.relu(-x),
        numbers(3, 4),
    ),
    "elu by its formula": (lambda x: tg.elu(x, 2.0), lambda x: tg.where(x > 0, x, 2 * tg.expm1(x)), numbers(3, 4)),
    "sigmoid by its formula": (tg.sigmoid, lambda x: 1 / (1 + tg.exp(-x)), numbers(3, 4)),
    "sigmoid = tanh": (tg.sigmoid, lambda x: 0.5 * (1 + tg.tanh(0.5 * x)), numbers(3, 4)),
    "softplus by its formula": (tg.softplus, lambda x: tg.log(1 + tg.exp(x)), numbers(3, 4)),
    "log_sigmoid = log of sigmoid": (tg.log_sigmoid, lambda x: tg.log(tg.sigmoid(x)), numbers(3, 4)),
    "logaddexp = logsumexp of a stack": (
        tg.logaddexp,
        lambda a, b: tg.logsumexp(tg.stack([a, b]), 0),
        numbers(3),
        numbers(3),
    ),
    "tanh by its formula": (tg.tanh, lambda x: (tg.exp(x) - tg.exp(-x)) / (tg.exp(x) + tg.exp(-x)), numbers(3, 4)),
    "tan = sin / cos": (tg.tan, lambda x: tg.sin(x) / tg.cos(x), lambda rng: rng.uniform(-1, 1, (3, 4))),
    "power = exp of log": (tg.power, lambda a, b: tg.exp(b * tg.log(a)), away(3, 4), numbers(4)),
    "square = power": (tg.square, lambda x: x**2, numbers(3)),
    "reciprocal = power": (tg.reciprocal, lambda x: x**-1, away(3)),
    "sqrt = power": (tg.sqrt, lambda x: x**0.5, away(3)),
    "cbrt = power": (tg.cbrt, lambda x: x ** (1 / 3), away(3)),
    "hypot = root of squares": (tg.hypot, lambda a, b: tg.sqrt(a * a + b * b), numbers(3), numbers(3)),
    "arctan2 = arctan of a quotient": (tg.arctan2, lambda y, x: tg.arctan(y / x), numbers(3), away(3)),
    "remainder by its formula": (tg.remainder, lambda a, b: a - b * tg.floor(a / b), numbers(3), away(3)),
    "absolute = x sign(x)": (tg.absolute, lambda x: x * tg.sign(x), numbers(3)),
    "stack = concatenate of expand_dims": (
        lambda a, b: tg.stack([a, b], -1),
        lambda a, b: tg.concatenate([tg.expand_dims(x, -1) for x in (a, b)], -1),
        numbers(2, 3),
        numbers(2, 3),
    ),
    "split and concatenate = x": (lambda x: tg.concatenate(tg.split(x, [1, 3], 1), 1), lambda x: x * 1, numbers(2, 4)),
    "unstack and stack = x": (lambda x: tg.stack(tg.unstack(x, 1), 1), lambda x: x * 1, numbers(2, 4)),
    "split = slices": (lambda x: tg.split(x, [1], -1)[1] * 2, lambda x: x[:, 1:] * 2, numbers(2, 4)),
    "take = product with one_hot": (
        lambda x: tg.take(x, PLACES, 0),
        lambda x: tg.matmul(EYE[PLACES], x),
        numbers(5, 2),
    ),
    "take = getitem": (lambda x: tg.take(x, PLACES, 1), lambda x: x[:, PLACES], numbers(2, 5)),
    "one_hot picks": (lambda x: (x * tg.one_hot([1, 0], 5)).sum(1), lambda x: x[[0, 1], [1, 0]], numbers(2, 5)),
    "roll = concatenate of slices": (
        lambda x: tg.roll(x, 2, 0),
        lambda x: tg.concatenate([x[-2:], x[:-2]]),
        numbers(5, 2),
    ),
    "flip = a step of -1": (lambda x: tg.flip(x, 1), lambda x: x[:, ::-1], numbers(2, 3)),
    "repeat = take": (lambda x: tg.repeat(x, 2, 0), lambda x: tg.take(x, [0, 0, 1, 1], 0), numbers(2, 3)),
    "tile = concatenate": (lambda x: tg.tile(x, 3), lambda x: tg.concatenate([x, x, x], -1), numbers(2, 3)),
    "pad = concatenate": (
        lambda x: tg.pad(x, (1, 2)),
        lambda x: tg.concatenate([np.zeros(1), x, np.zeros(2)]),
        numbers(4),
    ),
    "broadcast_to = multiply by ones": (
        lambda x: tg.broadcast_to(x, (4, 3)),
        lambda x: x * np.ones((4, 1)),
        numbers(3),
    ),
    "tril + triu = x": (lambda x: tg.tril(x, -1) + tg.triu(x), lambda x: x * 1, numbers(3, 4)),
    "at.set = where": (
        lambda x, v: x.at[1].set(v),
        lambda x, v: tg.where(np.arange(4)[:, None] == 1, v, x),
        numbers(4, 2),
        numbers(2),
    ),
    "at.add = x + a product with one_hot": (
        lambda x, v: x.at[np.array(PLACES)].add(v),
        lambda x, v: x + tg.matmul(EYE[:, PLACES], v),
        numbers(5, 2),
        numbers(4, 2),
    ),
    "gelu by its formula": (tg.gelu, lambda x: x * 0.5 * (1 + tg.erf(x / math.sqrt(2))), numbers(3)),
    "silu = x sigmoid(x)": (tg.silu, lambda x: x * tg.sigmoid(x), numbers(3)),
    "swapaxes = moveaxis": (lambda x: tg.swapaxes(x, 0, 1), lambda x: tg.moveaxis(x, 0, 1), numbers(2, 3, 4)),
    "reshape = ravel": (lambda x: tg.reshape(x, (6, 4)).T, lambda x: tg.ravel(x).reshape(6, 4).T, numbers(2, 3, 4)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pair(name):
    """Two ways to the same function: values, gradients and second derivatives, without any oracle."""
    one, other, *draws = PAIRS[name]
    rng = np.random.default_rng(len(name))
    arrays = [draw(rng) for draw in draws]
    found = []
    for f in (one, other):
        cotangents = np.random.default_rng(1)
        xs = [leaf(x) for x in arrays]
        y = f(*xs)
        g = leaf(cotangents.uniform(-1, 1, y.shape))
        gs = pull(y, xs, g, create_graph=True)
        vs = [cotangents.uniform(-1, 1, x.shape) for x in xs]
        recorded = [tg.sum(x * v) for x, v in zip(gs, vs)]
        found.append([y._data, *(x._data for x in gs), *pull(sum(recorded), [*xs, g], None)])
    for a, b in zip(*found, strict=True):
        compare(np.asarray(a), np.asarray(b), 1e-12, about=name)


# What the conventions promise together --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: tg.where(x > 0, tg.sqrt(x), 0), 0.0),
        (lambda x: tg.where(x > 0, tg.log(x), 0), 0.0),
        (lambda x: tg.where(x > 0, 1 / x, 0), 0.0),
        (lambda x: tg.where(x > 0, x**0.5, 0), 0.0),
        (lambda x: tg.where(x > 0, tg.norm(x * np.zeros(2)) / x, 0), 0.0),
        (lambda x: tg.where(x < 1, tg.arccos(x), 0), 1.0),
        (lambda x: tg.where(x < 1, tg.arctanh(x), 0), 1.0),
    ],
)
def test_where_shields(f, x):
    """What is not selected does not reach the gradient, however infinite its slope: exactly 0, and not NaN."""
    x = tg.tensor(x, requires_grad=True)
    with np.errstate(all="ignore"):
        f(x).backward()
    assert x.grad._data == 0


def test_cholesky_reads_the_lower_triangle_and_its_gradient_is_symmetric():
    x = np.array([[4.0, np.nan], [2.0, 5.0]])
    compare(tg.cholesky(x), np.array([[2.0, 0.0], [1.0, 2.0]]))
    x = tg.tensor([[4.0, 2.0], [2.0, 5.0]], requires_grad=True)
    tg.cholesky(x).backward(np.array([[0.0, 0.0], [1.0, 0.0]]))
    compare(x.grad._data, np.array([[-0.125, 0.25], [0.25, 0.0]]))
    with pytest.raises(np.linalg.LinAlgError, match=r"cholesky\(x: float64 \(2, 3\)\).*square"):
        tg.cholesky(np.ones((2, 3)))


def test_dtypes_and_devices_are_kept_apart():
    """A gradient comes back in the dtype of what it is the gradient of, through any cast."""
    x = tg.tensor([1.0, 2.0], requires_grad=True, dtype=np.float32)
    y = tg.astype(x, np.float64) * np.array([1.0, 3.0])
    assert y.dtype == np.float64
    y.sum().backward()
    compare(x.grad._data, np.float32([1, 3]))
    assert not tg.astype(x, int).requires_grad
