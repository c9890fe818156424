"""The check can be trusted: right gradients pass, wrong ones are reported, and what cannot be checked is refused."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import check_gradients, numerical_gradient

RNG = np.random.default_rng(2)
X = RNG.uniform(0.5, 2, (3, 4))


def made(forward, *rules):
    return tg.primitive(forward).vjp(*rules)


def sine(x):
    return np.sin(x)


RIGHT = {
    "a curve": (tg.sin, X),
    "a number": (tg.tanh, 0.3),
    "a tensor": (tg.exp, tg.tensor(X, requires_grad=True)),
    "tiny": (lambda x: 1e-8 * tg.sin(x), X),
    "huge": (lambda x: 1e8 * tg.sin(x), X),
    "tiny inputs": (tg.square, X * 1e-8),
    "huge inputs": (tg.log, X * 1e8),
    "the end of the domain is near": (tg.log, np.array([5e-4, 1.0])),
    "a kink is near": (tg.abs, np.array([1e-4, -1.0])),
    "zero": (lambda x: tg.softmax(x).sum() + 0 * x, X),
    "a constant": (lambda x: 3.0 + 0 * x, X),
    "two inputs": (tg.matmul, X, X.T),
    "broadcast": (tg.divide, X, X[:, :1]),
    "nested": (lambda p, n: {"a": p["w"] ** n, "b": (p["b"] * p["w"][0], 5)}, {"w": X, "b": 2.0}, 3),
    "mixed sizes": (lambda x: (x**2).sum(), RNG.normal(size=9) * 10.0 ** np.arange(-4, 5)),
    "many": (lambda x: tg.tanh(x @ X), RNG.normal(size=(40, 3))),
    "many, coupled": (lambda x: tg.logsumexp(x), RNG.normal(size=1000)),
    "nothing": (tg.exp, np.zeros((0, 2))),
    "one more, which does not matter": (lambda x, y: x, X, X),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_pass(name):
    f, *inputs = RIGHT[name]
    for seed in range(3):
        check_gradients(f, *inputs, order=2, seed=seed)


WRONG = {
    "a factor": made(sine, lambda g, x: g * tg.cos(x) * (1 + 1e-6)),
    "the sign": made(sine, lambda g, x: -g * tg.cos(x)),
    "transposed": made(sine, lambda g, x: (g * tg.cos(x)).T.reshape(x.shape)),
    "summed": made(sine, lambda g, x: 0 * x + (g * tg.cos(x)).sum()),
    "one element": made(sine, lambda g, x: g * tg.cos(x) * (1 + 1e-5 * (np.arange(x.size).reshape(x.shape) == 5))),
    "NaN": made(sine, lambda g, x: g * np.nan),
    "float32": made(sine, lambda g, x: (g * tg.cos(x)).astype(np.float32)),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("x", [X, RNG.uniform(0.5, 2, (9, 9))], ids=["few", "many"])
def test_wrong_gradients_are_reported(name, x):
    with pytest.raises(AssertionError, match=r"expected .*, got"):  # float32 is good to 6e-8
        check_gradients(WRONG[name], x, rtol=1e-9)


def test_rules_that_write_into_what_they_are_given():
    """Where it is shared, gradients are wrong, and where it is not, they are not, yet."""

    def in_place(g):
        g *= 2
        return g

    def into_what_is_kept(g, x):
        x *= 2
        return g * 2

    def wrong(f, rule, name):
        with pytest.raises(tg.MutationError, match=rf"^a rule of <lambda> wrote into {name} \(float64 \(3, 4\)\)"):
            check_gradients(f, X.copy(), made(lambda x: 2 * x, rule))

    for rule, name in ((in_place, "g"), (into_what_is_kept, "x")):
        wrong(lambda x, double: double(x), rule, name)
        wrong(lambda x, double: double(x) + x, rule, name)
        wrong(lambda x, double: (tg.sin(double(x) + x), double(x)), rule, name)
    halves = tg.primitive(several=True)(lambda x: (x / 2, x / 2)).vjp(lambda g: in_place(g[1]) / 4 + g[0] / 2)
    with pytest.raises(tg.MutationError, match="wrote into g"):
        check_gradients(halves, X)


def test_a_check_is_of_what_runs_otherwise():
    """Looking at what rules write keeps no scan from being compiled."""
    cell = tg.nn.RNNCell(2, 3, rng=0, dtype=np.float64)
    check_gradients(lambda xs: tg.scan(cell, xs, compiled=True)[0], RNG.normal(size=(5, 1, 2)))


def test_wrong_at_the_second_order_only():
    wrong = made(sine, lambda g, x: g * (tg.cos(x).detach() if isinstance(x, tg.Tensor) else np.cos(x)))
    check_gradients(wrong, X)
    with pytest.raises(AssertionError, match="order 2, seed 7"):
        check_gradients(wrong, X, order=2, seed=7)


def test_the_error_says_where():
    factors = np.ones((3, 4))
    factors[1, 2] = 2
    wrong = made(lambda x: np.exp(x), lambda g, out: g * out * factors)
    with pytest.raises(AssertionError) as error:
        check_gradients(lambda n, p: wrong(p["w"]), 3, {"w": X})
    expected, got = np.random.default_rng([0, 1]).normal(size=(3, 4))[1, 2] * np.exp(X[1, 2]) * np.array([1, 2])
    assert str(error.value).startswith("the gradient of <lambda> by inputs[1]['w'], at (1, 2): expected ")
    assert str(error.value).endswith(f", got {got:.12g} (order 1, seed 0)")
    assert f"{expected:.8g}"[:9] in str(error.value)


def test_a_kink_is_called_one():
    with pytest.raises(AssertionError, match=r"at \(1,\).*the slope is .* on the one side .*: this is a kink"):
        check_gradients(tg.relu, np.array([1.0, 0.0]))
    with pytest.raises(AssertionError) as error:
        check_gradients(WRONG["a factor"], X)
    assert "kink" not in str(error.value)


@pytest.mark.parametrize(("f", "inputs", "message"), [
    (tg.sin, [X.astype(np.float32)], r"inputs\[0\]: expected float64.*got float32 \(3, 4\)"),
    (tg.sin, [np.arange(3)], "inputs: expected float64"),
    (lambda x: x.astype(np.float32), [X], r"returned float32 \(3, 4\): expected float64"),
    (lambda x: x > 1, [X], "returned nothing that has a gradient"),
    (lambda x: x * RNG.normal(), [X], "not the same at each call"),
    (tg.log, [-X], "is not finite"),
])  # fmt: skip
def test_what_cannot_be_checked(f, inputs, message):
    with pytest.raises(ValueError, match=message):
        check_gradients(f, *inputs)
    assert tg.is_recording()


def test_numerical_gradients():
    a, b = numerical_gradient(lambda p, n: (p[0] ** n * p[1]).sum(), (X, 2.0), 3)
    np.testing.assert_allclose(a.numpy(), 6 * X**2, 1e-10)
    np.testing.assert_allclose(b.numpy(), (X**3).sum(), 1e-10)
    assert (a.shape, b.shape) == ((3, 4), ())


def test_on_any_array(xp):
    check_gradients(lambda a, b: tg.tanh(tg.matmul(a, b)), xp.asarray(X), xp.asarray(X.T), order=2)
    check_gradients(tg.sin, xp.asarray(RNG.normal(size=100)))
    (g,) = numerical_gradient(lambda x: (x * x).sum(), xp.asarray(X))
    assert type(g.data) is type(xp.asarray(X))
