"""The oracle can be trusted: what is right passes, what is wrong is reported, and the references mean what they say."""

import math

import numpy as np
import oracle
import pytest
import references as ref
from oracle import check, compare, complex_step, richardson

METHODS = [complex_step, richardson]


def drawn(shape, low=-2.0, high=2.0, seed=0):
    return np.random.default_rng([seed, len(shape), *shape]).uniform(low, high, shape)


def softmax_vjp(g, x):
    s = ref.softmax(x)
    return s * (g - (g * s).sum(axis=-1, keepdims=True))


# name: f, inputs, which input, domain, and the gradient by hand
RIGHT = {
    "sin": (np.sin, [drawn((3, 4))], 0, None, lambda g, x: g * np.cos(x)),
    "exp, up to 1e8": (np.exp, [drawn((5,), 15, 18)], 0, None, lambda g, x: g * np.exp(x)),
    "log at 1e-8": (np.log, [drawn((5,), 1e-8, 2e-8)], 0, (0, math.inf), lambda g, x: g / x),
    "log at 1e8": (np.log, [drawn((5,), 1e8, 2e8)], 0, (0, math.inf), lambda g, x: g / x),
    "square at 1e-8": (np.square, [drawn((5,), 1e-8, 2e-8)], 0, None, lambda g, x: g * 2 * x),
    "cube at 1e8": (lambda x: x * x * x, [drawn((5,), 1e8, 2e8)], 0, None, lambda g, x: g * 3 * x**2),
    "matmul, left": (np.matmul, [drawn((3, 4)), drawn((4, 2))], 0, None, lambda g, a, b: g @ b.T),
    "matmul, right": (np.matmul, [drawn((3, 4)), drawn((4, 2))], 1, None, lambda g, a, b: a.T @ g),
    "added, broadcast": (np.add, [drawn((3, 4)), drawn((4,))], 1, None, lambda g, a, b: g.sum(axis=0)),
    "divided": (np.divide, [drawn((4,)), drawn((4,), 1, 2)], 1, (0, math.inf), lambda g, a, b: -g * a / b**2),
    "inverse": (
        np.linalg.inv,
        [drawn((3, 3)) + 3 * np.eye(3)],
        0,
        None,
        lambda g, a: -np.linalg.inv(a).T @ g @ np.linalg.inv(a).T,
    ),
    "softmax": (ref.softmax, [drawn((3, 4))], 0, None, softmax_vjp),
    "a scalar": (np.tanh, [np.array(0.3)], 0, None, lambda g, x: g / np.cosh(x) ** 2),
    "nothing": (np.exp, [np.zeros((0, 2))], 0, None, lambda g, x: g),
    "sin of many": (np.sin, [drawn((10, 20))], 0, None, lambda g, x: g * np.cos(x)),
    "matmul of many": (np.matmul, [drawn((30, 40)), drawn((40, 20))], 0, None, lambda g, a, b: g @ b.T),
    "many of all sizes": (
        np.square,
        [drawn((100,)) * 10.0 ** np.linspace(-8, 8, 100)],
        0,
        None,
        lambda g, x: g * 2 * x,
    ),
}

WRONG = {
    "a factor 1 + 1e-7": ("sin", lambda g, x: g * np.cos(x) * (1 + 1e-7)),
    "a factor, with large numbers": ("cube at 1e8", lambda g, x: g * 3 * x**2 * (1 + 1e-7)),
    "a factor, with large gradients": ("log at 1e-8", lambda g, x: g / x * (1 + 1e-7)),
    "the sign": ("divided", lambda g, a, b: g * a / b**2),
    "the sign, with small numbers": ("square at 1e-8", lambda g, x: -g * 2 * x),
    "a missing sum": ("added, broadcast", lambda g, a, b: g),
    "a kept dimension": ("added, broadcast", lambda g, a, b: g.sum(axis=0, keepdims=True)),
    "the sum of another axis": ("added, broadcast", lambda g, a, b: np.repeat(g.sum(axis=1), 2)[:4]),
    "float32": ("sin", lambda g, x: (g * np.cos(x)).astype(np.float32)),
    "computed in float32": ("sin", lambda g, x: (g * np.cos(x)).astype(np.float32).astype(np.float64)),
    "transposed": ("inverse", lambda g, a: (-np.linalg.inv(a).T @ g @ np.linalg.inv(a).T).T),
    "operands swapped": ("matmul, left", lambda g, a, b: (b @ g.T).T[::-1]),
    "a term forgotten": ("softmax", lambda g, x: ref.softmax(x) * g),
    "the cotangent forgotten": ("sin", lambda g, x: np.cos(x)),
    "the output for the input": ("a scalar", lambda g, x: g / np.cosh(np.tanh(x)) ** 2),
    "one element": ("sin", lambda g, x: np.where(np.arange(12).reshape(3, 4) == 7, 0, g * np.cos(x))),
    "NaN": ("sin", lambda g, x: np.where(np.arange(12).reshape(3, 4) == 7, np.nan, g * np.cos(x))),
    "a list": ("sin", lambda g, x: (g * np.cos(x)).tolist()),
    "one of many": ("sin of many", lambda g, x: np.where(np.arange(200).reshape(10, 20) == 7, 0, g * np.cos(x))),
    "a factor, of many": ("sin of many", lambda g, x: g * np.cos(x) * (1 + 1e-7)),
    "many, transposed": ("sin of many", lambda g, x: (g * np.cos(x)).T),
    "many, in float32": ("sin of many", lambda g, x: (g * np.cos(x)).astype(np.float32)),
    "many, NaN": ("sin of many", lambda g, x: np.where(np.arange(200).reshape(10, 20) == 7, np.nan, g * np.cos(x))),
    "many, swapped": ("matmul of many", lambda g, a, b: (b @ g.T)[::-1].T),
}


def judged(name, method, gradient, seed=0):
    f, arrays, i, domain, _ = RIGHT[name]
    g = drawn(np.shape(f(*arrays)), 0.5, 1.5, seed=1)
    options = {"domain": domain} if method is richardson and domain else {}
    check(gradient(g, *arrays), f, arrays, i, g, np.random.default_rng(seed), method, **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_pass(name, method):
    for seed in range(3):
        judged(name, method, RIGHT[name][-1], seed)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_are_reported(name, method):
    with pytest.raises(AssertionError, match="gradient of input"):
        judged(WRONG[name][0], method, WRONG[name][1])


@pytest.mark.parametrize("method", METHODS)
def test_small_arrays_along_directions(method, monkeypatch):
    """The slope along a direction is the gradient's, and is found wrong where the gradient is."""
    monkeypatch.setattr(oracle, "FULL", 0)
    for name in ("sin", "matmul, left", "softmax", "inverse", "log at 1e-8", "cube at 1e8"):
        judged(name, method, RIGHT[name][-1])
        with pytest.raises(AssertionError, match="direction 0: 1 of 1 elements differ"):
            judged(name, method, lambda g, *xs, name=name: RIGHT[name][-1](g, *xs) * (1 + 1e-6))


def test_directions_are_fresh():
    """Another seed looks another way: what hides from one direction is seen from the next."""
    seen = []

    def f(x):
        seen.append(np.imag(x) / oracle.STEP)
        return np.sum(x)

    for seed in (0, 1):
        check(np.ones(100), f, [np.zeros(100)], 0, rng=np.random.default_rng(seed))
    assert len(seen) == 6
    assert len({u.tobytes() for u in seen}) == 6
    with pytest.raises(ValueError, match="100 elements: rng is needed"):
        check(np.ones(100), f, [np.zeros(100)], 0)


@pytest.mark.parametrize("method", METHODS)
def test_several_outputs(method):
    def f(x):
        return np.sin(x), np.sum(x * x)

    x, g = drawn((3,)), (drawn((3,), seed=1), np.array(2.0))
    check(g[0] * np.cos(x) + g[1] * 2 * x, f, [x], 0, g, method=method)
    check(g[0] * np.cos(x), f, [x], 0, (g[0], None), method=method)


def test_inputs_that_are_integers_stay():
    def f(x, n):
        assert n.dtype == np.int64
        return x[n]

    check(np.array([0.0, 2.0]), f, [np.array([1.0, 2.0]), np.array([1, 1])], 0, np.ones(2))


def test_float32_inputs_are_differentiated_in_float64():
    assert complex_step(np.sin, [np.float32([0.5])], 0, np.ones(1))[0] == pytest.approx(math.cos(0.5), rel=1e-15)


def test_what_is_not_complex_safe_is_refused():
    with pytest.raises(TypeError, match="not complex-safe"):
        complex_step(lambda x: np.abs(x) ** 2, [drawn((3,))], 0, np.ones(3))


@pytest.mark.parametrize("method", METHODS)
def test_a_cotangent_of_another_shape_is_refused(method):
    with pytest.raises(ValueError, match=r"g has the shape \(1, 3\), and the output \(3,\)"):
        method(np.sin, [drawn((3,))], 0, np.ones((1, 3)))
    with pytest.raises(ValueError, match="a cotangent g is needed"):
        method(np.sin, [drawn((3,))], 0)


def test_steps():
    """Powers of two, that stay in the domain and within reach."""
    x = np.array([1e-8, 0.9, 1.0, 1000.0])
    h = oracle.steps(x, (0, math.inf), math.inf)
    assert (np.log2(h) % 1 == 0).all()
    assert (x - h > 0).all()
    assert h[2] == 2.0**-10
    assert (oracle.steps(x, (-math.inf, math.inf), 1e-5) <= 1e-5).all()
    assert oracle.steps(x, (-math.inf, math.inf), math.inf)[3] == 2.0**-1
    with pytest.raises(ValueError, match="outside of the open domain"):
        oracle.steps(x, (0, 1), math.inf)


def test_reach_keeps_off_a_kink():
    x = np.array([3e-4, -3e-4])
    check(np.array([1.0, 0.0]), ref.relu, [x], 0, np.ones(2), method=richardson, reach=1e-4)
    with pytest.raises(AssertionError):
        check(np.array([1.0, 0.0]), ref.relu, [x], 0, np.ones(2), method=richardson)


# The comparison


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (np.ones(3), np.ones((1, 3))),
        (np.ones(3), np.ones(3, np.float32)),
        (np.array(1.0), np.ones(1)),
        (1.0, np.array(1.0)),
        (np.array([1.0, np.nan]), np.array([1.0, np.nan])),
        (np.array([1.0, np.inf]), np.array([1.0, -np.inf])),
        (np.array([1.0, np.inf]), np.array([1.0, 1e300])),
        (np.array([1.0, 0.0]), np.array([1.0, np.inf])),
        (np.array([1.0, 0.0]), np.array([1.0, np.nan])),
        (np.array([1.0, 1e-4]), np.array([1.0, 0.0])),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([True]), np.array([False])),
    ],
)
def test_compare_reports(actual, expected):
    with pytest.raises(AssertionError):
        compare(actual, expected)


def test_compare_lets_pass():
    compare(np.array([1.0, np.inf, -np.inf, 0.0]), np.array([1.0 + 1e-10, np.inf, -np.inf, 1e-11]))
    compare(np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), equal_nan=True)
    compare(np.zeros((0, 3)), np.zeros((0, 3)))
    compare(np.array([1, 2]), np.array([1, 2]))


def test_compare_names_the_worst():
    a, e = np.zeros((2, 3)), np.zeros((2, 3))
    a[0, 1], a[1, 2] = 1.0, 2.0
    with pytest.raises(
        AssertionError,
        match=r"here: 2 of 6 elements .* worst at \(1, 2\): expected .*0\.0.*, got .*2\.0.* \(off by 2\)",
    ):
        compare(a, e, about="here")
    a[0, 0] = np.nan
    with pytest.raises(AssertionError, match=r"worst at \(0, 0\).*nan"):
        compare(a, e)


# The references

ERF_INPUTS = [-6.0, -2.5, -1.0, -1e-9, 0.0, 0.3, 1.7, 4.0]

SAME_AS = {  # what each is in NumPy (or in Python's math), on real numbers
    "absolute": (np.absolute, [drawn((3, 4))]),
    "sign": (np.sign, [drawn((3, 4))]),
    "floor": (np.floor, [drawn((3, 4))]),
    "ceil": (np.ceil, [drawn((3, 4))]),
    "trunc": (np.trunc, [drawn((3, 4))]),
    "round": (np.round, [drawn((3, 4))]),
    "remainder": (np.remainder, [drawn((5, 4)), drawn((4,), 0.5, 1.5) * [1, -1, 1, -1]]),
    "floor_divide": (np.floor_divide, [drawn((5, 4)), drawn((4,), 0.5, 1.5) * [1, -1, 1, -1]]),
    "maximum": (np.maximum, [drawn((5,)), drawn((5,), seed=1)]),
    "minimum": (np.minimum, [drawn((5,)), drawn((5,), seed=1)]),
    "clip": (lambda x: np.clip(x, -1, 0.5), [drawn((9,))], {"min": -1.0, "max": 0.5}),
    "relu": (lambda x: np.maximum(x, 0), [drawn((9,))]),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.2 * x), [drawn((9,))], {"slope": 0.2}),
    "elu": (lambda x: np.where(x > 0, x, 2 * np.expm1(x)), [drawn((9,))], {"alpha": 2.0}),
    "cbrt": (np.cbrt, [drawn((9,))]),
    "hypot": (np.hypot, [drawn((9,)), drawn((9,), seed=1)]),
    "arctan2": (np.arctan2, [drawn((40,)), drawn((40,), seed=1)]),
    "logaddexp": (np.logaddexp, [drawn((9,), -30, 30), drawn((9,), -30, 30, seed=1)]),
    "erf": (np.vectorize(math.erf), [np.array(ERF_INPUTS)]),
    "softplus": (lambda x: np.log1p(np.exp(x)), [drawn((9,), -20, 20)]),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), [drawn((9,), -20, 20)]),
    "log_sigmoid": (lambda x: -np.log1p(np.exp(-x)), [drawn((9,), -20, 20)]),
    "silu": (lambda x: x / (1 + np.exp(-x)), [drawn((9,))]),
    "gelu": (lambda x: x * (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2, [drawn((9,))]),
    "max": (lambda x: np.max(x, axis=(0, 2)), [drawn((2, 3, 4))], {"axis": (0, -1)}),
    "min": (lambda x: np.min(x, axis=1, keepdims=True), [drawn((2, 3, 4))], {"axis": 1, "keepdims": True}),
    "mean": (lambda x: np.mean(x, axis=1), [drawn((2, 3, 4))], {"axis": 1}),
    "var": (lambda x: np.var(x, axis=1, ddof=1), [drawn((2, 3, 4))], {"axis": 1, "ddof": 1}),
    "std": (lambda x: np.std(x, keepdims=True), [drawn((2, 3, 4))], {"keepdims": True}),
    "norm": (lambda x: np.linalg.norm(x, axis=(0, 2)), [drawn((2, 3, 4))], {"axis": (0, 2)}),
    "logsumexp": (lambda x: np.log(np.sum(np.exp(x), axis=0)), [drawn((2, 3))], {"axis": 0}),
    "softmax": (lambda x: np.exp(x) / np.sum(np.exp(x), axis=0), [drawn((2, 3))], {"axis": 0}),
    "log_softmax": (lambda x: x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True)), [drawn((2, 3))]),
    "cholesky": (np.linalg.cholesky, [np.stack([4 * np.eye(3) + 0.5, np.eye(3) + 0.1])]),
    "slogdet": (np.linalg.slogdet, [drawn((4, 3, 3))]),
    "trace": (lambda a: np.trace(a, axis1=-2, axis2=-1), [drawn((2, 3, 4))]),
}


@pytest.mark.parametrize("name", SAME_AS)
def test_references_are_what_numpy_computes(name):
    numpy, arrays, *keywords = SAME_AS[name]
    actual, expected = getattr(ref, name)(*arrays, **(keywords[0] if keywords else {})), numpy(*arrays)
    for a, e in zip(actual, expected, strict=True) if isinstance(actual, tuple) else [(actual, expected)]:
        compare(np.asarray(a), np.asarray(e), rtol=1e-13)


@pytest.mark.parametrize("name", SAME_AS)
def test_references_differentiate_by_a_complex_step_as_by_differences(name):
    _, arrays, *keywords = SAME_AS[name]

    def f(*xs):
        return getattr(ref, name)(*xs, **(keywords[0] if keywords else {}))

    rng = np.random.default_rng(0)
    out = f(*arrays)
    g = (
        tuple(rng.uniform(0.5, 1, np.shape(o)) for o in out)
        if isinstance(out, tuple)
        else rng.uniform(0.5, 1, out.shape)
    )
    for i in range(len(arrays)):
        check(complex_step(f, arrays, i, g), f, arrays, i, g, rng, richardson, reach=1e-3)


@pytest.mark.parametrize("ord", [None, 1, 2, 3, 2.5, math.inf, -math.inf, 0])
def test_norms(ord):
    x = drawn((3, 4)) + 0.01
    compare(ref.norm(x, ord, axis=1), np.linalg.norm(x, ord, axis=1), rtol=1e-13)
    g = np.ones(3)
    f = lambda x: ref.norm(x, ord, axis=1)  # noqa: E731
    check(complex_step(f, [x], 0, g), f, [x], 0, g, method=richardson, reach=1e-4)


def test_every_reference_is_tested():
    public = {name for name, thing in vars(ref).items() if callable(thing) and thing.__module__ == "references"}
    assert public - set(SAME_AS) == {"flattened", "reduced"}
    assert len(WRONG) >= 12
    assert len(RIGHT) >= 12
