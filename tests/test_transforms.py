"""Functions made of functions: right, in any nesting, to any order, and with no more on the tape than is wanted."""

import gc
import math
import weakref
from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from tinygrad_rnn.trees import flatten, map, paths

State = namedtuple("State", "h c")
RNG = np.random.default_rng(1)
W, X, V = RNG.normal(size=(3, 4)), RNG.normal(size=4), RNG.normal(size=4)


def net(x, w=W):
    """Four numbers to three, with second derivatives that are not zero."""
    return tg.tanh(w @ (x * x))


def net_jacobian(x, w=W):
    return (1 - np.tanh(w @ x**2) ** 2)[:, None] * w * 2 * x


def close(a, b, rtol=1e-12):
    a = a.numpy() if isinstance(a, tg.Tensor) else a
    assert a.shape == np.shape(b)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)


# Trees


def test_trees_keep_their_kinds():
    tree = OrderedDict(a=State(1, [2, None]), b=defaultdict(list, {"k": (3,)}), c=())
    leaves, rebuild = flatten(tree)
    new = rebuild("xyz")
    assert leaves == [1, 2, 3]
    assert new == OrderedDict(a=State("x", ["y", None]), b={"k": ("z",)}, c=())
    assert type(new) is OrderedDict
    assert type(new["a"]) is State
    assert new["b"].default_factory is list
    assert paths(tree, "t") == ["t['a'][0]", "t['a'][1][0]", "t['b']['k'][0]"]
    assert tree["a"] == State(1, [2, None])  # the old one is as it was


def test_trees_of_another_form_are_refused():
    with pytest.raises(ValueError, match=r"state\['c'\]: expected a tuple of 2, got a tuple of 1"):
        map(print, {"c": (1, 2)}, {"c": (1,)}, name="state")
    with pytest.raises(ValueError, match=r"tree: expected a dict with keys \['h'\], got a list of 1"):
        map(print, {"h": 1}, [1])
    with pytest.raises(ValueError, match=r"tree\[0\]: expected None, got a list of 1"):
        map(print, [None], [[1]])
    assert map(lambda a, b: (a, b), [1], [(2, 3)]) == [(1, (2, 3))]


# First order


def test_grad_of_nested_arguments():
    def f(p, scale):
        return (p["s"].h @ p["s"].c[0]).sum() * scale + p["b"] ** 2

    p = {"s": State(np.ones((2, 3)), [np.arange(3.0), None]), "b": 3.0}
    g = grad(f)(p, 2.0)
    assert type(g["s"]) is State
    assert g["s"].c[1] is None
    close(g["s"].h, [[0, 2, 4], [0, 2, 4]])
    close(g["s"].c[0], [4, 4, 4])
    close(g["b"], 6.0)


def test_argnums_and_keywords():
    def f(x, n, y, *, scale=1.0):
        assert isinstance(n, int)
        return (x**n * y).sum() * scale

    x, y = np.array([2.0, 3.0]), tg.tensor([5.0, 7.0])
    close(grad(f)(x, 2, y, scale=10.0), [200, 420])
    dx, dy = grad(f, argnums=(0, 2))(x, 2, y)
    close(dx, [20, 42])
    close(dy, [4, 9])
    close(grad(f, argnums=-1)(x, 2, y), [4, 9])
    (dy,) = grad(f, argnums=(2,))(x, 2, y)
    close(dy, [4, 9])


def test_value_and_aux():
    y, g = value_and_grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    close(y, 5.0)
    close(g, [2, 4])
    (y, aux), g = value_and_grad(lambda x: (x * 2, {"double": x * 2, "n": 3, "s": "text"}), has_aux=True)(4.0)
    close(y, 8.0)
    close(g, 2.0)
    assert (aux["n"], aux["s"], aux["double"].requires_grad) == (3, "text", False)


def test_one_number_may_have_dimensions():
    close(grad(lambda x: x[:1, None])(np.ones(2)), [1, 0])


def test_vjp_and_jvp_agree_with_the_jacobian():
    j, u = net_jacobian(X), RNG.normal(size=3)
    y, pull = vjp(net, X)
    close(y, np.tanh(W @ X**2))
    for scale in (1, 2):
        close(pull(scale * u)[0], scale * (u @ j))
    y, t = jvp(net, X, V)
    close(y, np.tanh(W @ X**2))
    close(t, j @ V)
    close(jacobian(net)(X), j)


def test_results_and_arguments_in_nestings():
    def f(state, w):
        return {"y": w @ state.h, "same": [state.h, state.h], "sum": (state.h.sum() * state.c, tg.tensor(1.0))}

    s, w = State(X, 2.0), W
    _, pull = vjp(f, s, w)
    ds, dw = pull({"y": np.ones(3), "same": [V, X], "sum": (np.array(3.0), 0)})
    close(ds.h, W.sum(axis=0) + V + X + 6.0)
    close(ds.c, 3 * X.sum())
    close(dw, np.ones((3, 1)) * X)
    _, t = jvp(f, (s, w), (State(V, 1.0), 2 * W))
    close(t["y"], W @ V + 2 * W @ X)
    close(t["same"][1], V)
    close(t["sum"][0], V.sum() * 2 + X.sum())
    close(t["sum"][1], 0.0)
    j = jacobian(f, argnums=(0, 1))(s, w)
    close(j["y"][0].h, W)
    close(j["y"][0].c, np.zeros(3))
    assert j["y"][1].shape == (3, 3, 4)
    close(j["same"][0][0].h, np.eye(4))


def test_constant_functions_have_zero_gradients():
    x = np.array([1.0, np.inf])
    for constant in (tg.tensor(3.0), tg.tensor(np.ones(1)), tg.tensor(2)):
        close(grad(lambda x, c=constant: c)(x), [0, 0])
        close(vjp(lambda x, c=constant: c, x)[1](np.zeros_like(constant.numpy()))[0], [0, 0])
        close(jvp(lambda x, c=constant: c, x, np.ones(2))[1], np.zeros(np.shape(constant)))
        close(jacobian(lambda x, c=constant: c)(x), np.zeros((*np.shape(constant), 2)))
    close(grad(lambda x: x.detach().sum())(x), [0, 0])
    w = tg.tensor(2.0, requires_grad=True)
    close(grad(lambda x: w * w)(x), [0, 0])  # on the tape, but not of x
    close(jvp(lambda x: w * w, x, np.ones(2))[1], 0.0)


@pytest.mark.parametrize("lost", [float, lambda x: math.sin(x), lambda x: 3.0, lambda x: x.data, lambda x: (x, 1)])
def test_a_gradient_that_was_lost_is_no_zero(lost):
    for transform in (grad, jacobian, lambda f: lambda x: vjp(f, x), lambda f: lambda x: jvp(f, x, 1.0)):
        with pytest.raises(TypeError, match="is no tensor: no gradient flows through"):
            transform(lost)(1.0)


def test_sizes_and_dtypes():
    assert jacobian(lambda x: x * 2)(np.ones((0, 2))).shape == (0, 2, 0, 2)
    assert jacobian(lambda x: x.sum(axis=0))(np.ones((0, 2))).shape == (2, 0, 2)
    assert grad(lambda x: (x * 2).sum())(np.ones((0, 2))).shape == (0, 2)
    x = np.ones(3, np.float32)
    for g in (grad(lambda x: (x * x).sum())(x), jacobian(lambda x: x * x)(x), hvp(lambda x: (x**3).sum(), x, x),
              vjp(tg.tanh, x)[1](x.astype(float))[0], jvp(tg.tanh, x, np.ones(3, int))[1]):  # fmt: skip
        assert g.dtype == np.float32
    y, pull = vjp(lambda a, b: (a * 2, b * 3), x, x.astype(float))
    assert [g.dtype for g in pull(y)] == [np.float32, np.float64]


# Any order


def test_orders_of_one_variable():
    f, x = tg.sin, 0.7
    for expected in (np.cos(x), -np.sin(x), -np.cos(x), np.sin(x), np.cos(x), -np.sin(x)):
        f = grad(f)
        close(f(x), expected)
    f = lambda x: x**5  # noqa: E731
    for expected in (5 * x**4, 20 * x**3, 60 * x**2, 120 * x, 120, 0):
        f = grad(f)
        close(f(x), expected)


def test_no_perturbation_confusion():
    close(grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0), 1.0)
    close(grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0), 6.0)
    close(jvp(lambda x: x * jvp(lambda y: x * y, 2.0, 1.0)[1], 3.0, 1.0)[1], 6.0)
    close(jvp(lambda x: x * grad(lambda y: x * y * y)(2.0), 3.0, 1.0)[1], 24.0)
    close(grad(lambda x: grad(lambda y: x * y)(x) + grad(lambda x: x * x)(x))(3.0), 3.0)


@pytest.mark.parametrize("second", [
    hessian, lambda f: jacobian(grad(f)), lambda f: jacobian(jacobian(f)),
    lambda f: lambda x: tg.stack([hvp(f, x, e) for e in np.eye(4)]),
    lambda f: lambda x: tg.stack([jvp(grad(f), x, e)[1] for e in np.eye(4)]),
    lambda f: lambda x: tg.stack([grad(lambda x, e=e: jvp(f, x, e)[1])(x) for e in np.eye(4)]),
    lambda f: lambda x: tg.stack([jvp(lambda x, e=e: vjp(f, x)[1](1.0)[0], x, e)[1] for e in np.eye(4)]),
])  # fmt: skip
def test_second_order_in_every_nesting(second):
    def f(x):
        return (tg.tanh(x) * x[::-1]).sum() ** 2

    t, d = np.tanh(X), 1 - np.tanh(X) ** 2
    s, ds = (t * X[::-1]).sum(), d * X[::-1] + t[::-1]
    dds = np.diag(-2 * t * d * X[::-1]) + np.diag(d)[:, ::-1] + np.diag(d)[::-1]
    close(second(f)(X), 2 * np.outer(ds, ds) + 2 * s * dds, 1e-11)
    close(jacobian(second(f))(X), jacobian(hessian(f))(X).numpy(), 1e-10)


def test_hvp_of_several_arguments():
    def f(x, y):
        return (x * x * y).sum()

    a, b = hvp(f, (X, V), (V, X))
    close(a, 2 * V * V + 2 * X * X)
    close(b, 2 * X * V)


def test_gradients_of_a_penalty_reach_closed_over_weights():
    w = tg.tensor(W, requires_grad=True)
    penalty = (grad(lambda x: net(x, w).sum())(X) ** 2).sum()
    (dw,) = tg.gradients(penalty, [w])
    expected = grad(lambda w: (grad(lambda x: net(x, w).sum())(X) ** 2).sum())(W)
    close(dw, expected.numpy())
    tg.check_gradients(lambda w: (grad(lambda x: net(x, w).sum())(X) ** 2).sum(), W)


def test_transforms_see_through_tensors_that_are_given():
    x = tg.tensor(X, requires_grad=True)
    y, g = value_and_grad(lambda x: (x**3).sum())(x)
    (g.sum() + y).backward()
    close(x.grad, 6 * X + 3 * X**2)
    u = tg.tensor(V, requires_grad=True)
    y, pull = vjp(lambda x: x * x, X)
    close(tg.gradients(pull(u)[0].sum(), u), 2 * X)
    close(tg.gradients(jvp(lambda x: x * x, X, u)[1].sum(), u), 2 * X)


# What is on the tape


def test_nothing_is_recorded_that_nobody_could_use():
    results = [
        value_and_grad(lambda x: (x * x).sum())(X), vjp(net, X)[0], vjp(net, X)[1](np.ones(3)), jvp(net, X, V),
        jacobian(net)(X), hessian(lambda x: net(x).sum())(X), hvp(lambda x: net(x).sum(), X, V),
    ]  # fmt: skip
    x = tg.tensor(X, requires_grad=True)
    with tg.no_grad():
        results += [grad(lambda y: (x * y).sum())(X), vjp(lambda y: x * y, X)[0], jvp(net, x, x), vjp(net, x)[1](x[:3])]
        results += [value_and_grad(lambda x: (x * x).sum())(x)]
        close(results[-1][1], 2 * X)
        assert not tg.is_recording()
    assert [y.requires_grad for y in flatten(results)[0]] == [False] * len(flatten(results)[0])
    assert vjp(net, x)[0].requires_grad
    assert x.grad is None


def test_functions_are_recorded_inside_no_grad():
    with tg.no_grad():
        close(grad(grad(lambda x: x**3))(2.0), 12.0)
        close(grad(lambda x: x * tg.no_grad(lambda: x * x)())(2.0), 4.0)  # unless they say so themselves


def test_the_tape_is_freed():
    kept = []

    def f(x):
        y = tg.exp(x)
        kept.append(weakref.ref(y.node))
        return (y * y).sum(), y

    gc.disable()
    try:
        value_and_grad(f, has_aux=True)(X)
        jvp(f, X, V)
        jacobian(f)(X)
        pull = vjp(f, X)[1]
        assert [r() is None for r in kept] == [True, True, True, False]
        del pull
        assert kept[-1]() is None
    finally:
        gc.enable()


def test_entries_are_freed_as_they_are_walked():
    kept = []
    grad(lambda x: (kept.append(y := tg.exp(x)), y.sum())[1])(X)
    assert kept[0].node.kept == ()


def test_leaves_that_are_made_inside_are_somebody_elses():
    made = []

    def f(x):
        made.append(tg.tensor(X, requires_grad=True))
        return (x * made[-1]).sum()

    y, g = value_and_grad(f)(V)
    close(tg.gradients(y, made[0]), V)
    close(tg.gradients(g.sum(), made[0]), np.ones(4))


def test_values_that_are_not_finite_do_no_harm():
    close(vjp(lambda x: x + np.inf, X)[1](np.zeros(4))[0], np.zeros(4))
    close(jvp(lambda x: x + np.inf, X, V)[1], V)


def test_older_entries_are_not_entered():
    w = tg.tensor(2.0, requires_grad=True)
    old = w * w
    for _ in range(10):
        old = old * 1.0
    old.backward()  # frees its entries: to enter them would be an error
    with tg.no_grad():
        close(grad(lambda x: x * x * old)(3.0), 24.0)
    assert grad(lambda x: x * x * old)(3.0).requires_grad


def test_arguments_are_copied():
    x = X.copy()
    _, pull = vjp(lambda x: x * x, x)
    x[:] = 0
    close(pull(np.ones(4))[0], 2 * X)


def test_on_any_array(xp):
    x, v = xp.asarray(X), xp.asarray(V)
    w = xp.asarray(W)

    def f(x):
        return tg.tanh(tg.matmul(w, x * x))

    assert type(grad(lambda x: f(x).sum())(x).data) is type(x)
    close(jacobian(f)(x), net_jacobian(X))
    close(jvp(f, x, v)[1], net_jacobian(X) @ V)
    close(vjp(f, x)[1](f(x))[0], np.tanh(W @ X**2) @ net_jacobian(X))
    close(hvp(lambda x: f(x).sum(), x, v), hvp(lambda x: net(x).sum(), X, V).numpy())
    close(vjp(lambda x: x.sum(), x)[1](2.0)[0], 2 * np.ones(4))


# Errors


def loss(x):
    return x * x


ERRORS = {
    "not one number": (lambda: grad(loss)(X), ValueError, r"loss returned float64 \(4,\), and only a single"),
    "integers": (lambda: grad(loss)(np.arange(3)), TypeError, r"loss: argument 0: expected floating.*int64 \(3,\)"),
    "an integer": (lambda: grad(loss)(3), TypeError, r"argument 0: expected floating-point numbers, got int64 \(\)"),
    "nested integers": (lambda: grad(loss, -1)({"w": [1.0, True]}), TypeError, r"argument -1\['w'\]\[1\]: expect"),
    "complex": (lambda: grad(loss)(1j * X), TypeError, "complex128 has no gradient"),
    "a string": (lambda: grad(loss)("x"), TypeError, "argument 0: expected a tensor, an array or a number, got 'x'"),
    "no such argument": (lambda: grad(loss, 1)(X), TypeError, "loss: argnums=1: expected places among its 1 pos"),
    "twice": (lambda: grad(loss, (0, -1))(X), TypeError, "argnums="),
    "returns None": (lambda: grad(lambda x: None)(1.0), TypeError, "returned None, which is no tensor"),
    "vjp returns None": (lambda: vjp(lambda x: None, 1.0), TypeError, "returned None, which is no tensor"),
    "returns a string": (lambda: vjp(lambda x: ["y"], 1.0), TypeError, "returned 'y', which is no tensor"),
    "returns a tuple": (lambda: grad(lambda x: (x, x))(1.0), TypeError, "which is no tensor"),
    "no pair": (lambda: value_and_grad(loss, has_aux=True)(1.0), TypeError, r"loss returned.*has_aux, a pair is"),
    "cotangent's shape": (lambda: vjp(loss, X)[1](1.0), ValueError, r"g: expected float64 \(4,\), got 1.0"),
    "cotangent's form": (lambda: vjp(lambda x: (x, x), X)[1](X), ValueError, "expected a tuple of 2, got one ndarray"),
    "cotangent complex": (lambda: vjp(loss, X)[1](1j * X), ValueError, r"g: expected float64 \(4,\), got complex128"),
    "tangent's shape": (lambda: jvp(loss, X, X[:2]), ValueError, r"vs\[0\]: expected float64 \(4,\), got float64 \(2"),
    "tangents": (lambda: jvp(loss, (X,), (X, X)), ValueError, "vs: expected a tuple of 1, got a tuple of 2"),
    "hvp": (lambda: hvp(lambda x: x @ x, X, 1.0), ValueError, r"g\[0\]: expected float64 \(4,\), got 1.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
    assert tg.is_recording()
