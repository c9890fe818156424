"""Losses as landscapes, slopes along them, and the way down: against plain NumPy, and derivatives written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.analysis import along, descent, profile, random_direction, surface


def cliff(w, b):
    """(x - 0.7)² after 50 steps of x' = w σ(x) + b, from 0.5 (Pascanu et al., 2013)."""
    x = 0.5
    for _ in range(50):
        x = w * tg.sigmoid(x) + b
    return (x - 0.7) ** 2


def cliff_by_hand(w, b):
    """The same, and its derivatives, carried along step by step."""
    x, dw, db = 0.5, 0.0, 0.0
    for _ in range(50):
        s = 1 / (1 + math.exp(-x))
        x, dw, db = w * s + b, s + w * s * (1 - s) * dw, 1 + w * s * (1 - s) * db
    return (x - 0.7) ** 2, np.array([2 * (x - 0.7) * dw, 2 * (x - 0.7) * db])


# Surfaces -------------------------------------------------------------------------------------------------------------


def test_a_surface_is_every_loss():
    w, b = np.linspace(4.2, 5.4, 5), np.linspace(-3, -1.8, 4)
    expected = [[cliff_by_hand(x, y)[0] for x in w] for y in b]
    for vectorized in (False, True):
        found = surface(cliff, w, b, vectorized=vectorized)
        np.testing.assert_allclose(found.values, expected, rtol=1e-8)
    j, i = np.unravel_index(np.argmin(expected), (4, 5))
    assert found.lowest == (w[i], b[j])


def test_a_surface_with_holes():
    found = surface(lambda a, b: tg.log(tg.tensor(a)) + b, np.linspace(-1, 1, 3), np.linspace(0, 1, 3))
    assert np.isnan(found.values[:, 0]).all() and np.isneginf(found.values[:, 1]).all()
    assert "6 not finite" in repr(found)
    assert "all NaN" in repr(surface(lambda a, b: a * np.nan, GRID, GRID))


# The way down ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 3.0, 0.1])
def test_descent_is_gradient_descent(clip):
    found = descent(cliff, (5.0, -2.5), lr=0.01, steps=30, clip=clip)
    point, points, norms = np.array([5.0, -2.5]), [(5.0, -2.5)], []
    for _ in range(30):
        g = cliff_by_hand(*point)[1]
        norms.append(math.hypot(*g))
        point = point - 0.01 * g * (min(1, clip / norms[-1]) if clip else 1)
        points.append(point)
    np.testing.assert_allclose(found.points, points, rtol=1e-6)
    np.testing.assert_allclose(found.norms, norms, rtol=1e-5)
    np.testing.assert_allclose(found.losses, [cliff_by_hand(*p)[0] for p in points], rtol=1e-5)
    assert found.ended == "steps"


def test_on_the_cliff_the_one_is_thrown_and_the_other_is_not():
    thrown, held = (descent(cliff, (5.0, -2.5), 0.01, 100, clip) for clip in (None, 3.0))
    assert thrown.norms.max() > 1000 and held.norms.max() > 1000
    assert np.linalg.norm(np.diff(thrown.points, axis=0), axis=1).max() > 5
    assert np.linalg.norm(np.diff(held.points, axis=0), axis=1).max() <= 0.03 * (1 + 1e-12)
    assert held.losses[-1] < 0.5 < thrown.losses[-1]


def test_descent_touches_no_other_gradient():
    w = tg.tensor(2.0, requires_grad=True)
    found = descent(lambda a, b: w * a * a + b, (5, -2), lr=0.1, steps=3)  # whole numbers are numbers
    assert w.grad is None and found.points[1].tolist() == [3.0, -2.1]
    assert found.norms[0] == pytest.approx(math.hypot(20, 1))


def test_descent_ends_where_nothing_is_finite():
    found = descent(lambda x: x**4, (10.0,), lr=1.0, steps=100)
    assert found.ended == "not finite" and not np.isfinite(found.losses[-1])
    assert len(found.points) == len(found.losses) == len(found.norms) + 1 < 20
    assert np.isfinite(found.losses[:-1]).all() and "not finite" in repr(found)
    at_once = descent(lambda x: tg.sqrt(x), (0.0,), lr=1.0, steps=5)  # finite, with an infinite slope
    assert at_once.ended == "not finite" and at_once.points.tolist() == [[0.0]] and len(at_once.norms) == 0
    assert descent(lambda x: x * x, (1.0,), lr=0.1, steps=0).losses.tolist() == [1.0]


# Profiles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_profile_has_the_slopes(vectorized):
    v, targets = np.linspace(-2, 2, 7), np.array([0.5, 1.0])

    def samples(b):
        return (tg.reshape(b, (*b.shape, 1)) ** 2 - targets) ** 2

    found = profile(samples, v, vectorized=vectorized)
    np.testing.assert_allclose(found.losses, (v[:, None] ** 2 - targets) ** 2, rtol=1e-14)
    np.testing.assert_allclose(found.slopes, 4 * v[:, None] * (v[:, None] ** 2 - targets), atol=1e-13)
    np.testing.assert_allclose(found.mean_slope, found.slopes.mean(axis=1))
    np.testing.assert_allclose(found.mean, found.losses.mean(axis=1))
    one = profile(tg.sin, v, vectorized=vectorized)
    np.testing.assert_allclose(one.slopes, np.cos(v), rtol=1e-14)
    np.testing.assert_array_equal(one.mean_slope, one.slopes)


def test_the_mean_of_cliffs_is_smoother_than_each():
    """Each sample has its cliff at another bias (x is driven by another input): none is as steep in the mean."""
    drive = np.random.default_rng(0).normal(0, 0.5, (30, 40))

    def losses(b):
        x = np.full((*b.shape, 40), 0.5)
        for u in drive:
            x = 6 * tg.sigmoid(x) + u + tg.reshape(b, (*b.shape, 1))
        return (x - 0.7) ** 2

    found = profile(losses, np.linspace(-4, -2, 1001), vectorized=True)
    steepest = abs(found.slopes).max(axis=0)
    assert abs(found.mean_slope).max() < steepest.mean() / 2
    above, below = (losses(found.at[::50] + h) for h in (1e-7, -1e-7))
    np.testing.assert_allclose(found.slopes[::50], (above - below) / 2e-7, rtol=1e-3, atol=1e-5)


# A model's loss -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        self.cell = nn.RNNCell(2, 4, rng=0, dtype=np.float64)
        self.out = nn.Linear(4, 1, rng=1, dtype=np.float64)

    def forward(self, xs):
        return self.out(tg.scan(self.cell, xs)[0])


XS = np.random.default_rng(0).standard_normal((40, 3, 2))


def loss(model, xs):
    return (model(xs) ** 2).mean()


def with_weights(**changed):
    """The loss of another model, of the same seed, some of whose weights are given."""
    other = Net()
    other.load_state_dict({**other.state_dict(), **{name.replace("__", "."): w for name, w in changed.items()}})
    return loss(other, XS).item()


def test_entries_of_weights_are_the_numbers():
    model = Net()
    f = along(model, loss, XS, ("cell.weight_hh", (1, 2)), ("out.bias", 0))
    W = model.cell.weight_hh.numpy().copy()
    W[1, 2] = 0.3
    expected = with_weights(cell__weight_hh=W, out__bias=np.array([-0.7]))
    assert f(0.3, -0.7).item() == pytest.approx(expected, rel=1e-13)
    V = W.copy()
    V[0, 0] = 0.9  # two entries of the same weight
    f = along(model, loss, XS, ("cell.weight_hh", (1, 2)), ("cell.weight_hh", (0, 0)))
    assert f(0.3, 0.9).item() == pytest.approx(with_weights(cell__weight_hh=V), rel=1e-13)


def test_directions_start_from_the_weights():
    model = Net()
    one, two = random_direction(model, 1), random_direction(model, 2)
    before = model.state_dict()
    f = along(model, loss, XS, one, two)
    moved = {name.replace(".", "__"): w + 0.3 * one[name] - 2 * two[name] for name, w in before.items()}
    assert f(0.3, -2.0).item() == pytest.approx(with_weights(**moved), rel=1e-12)
    assert f(0.0, 0.0).item() == loss(model, XS).item()
    mixed = along(model, loss, XS, ("out.bias", 0), {"out.bias": np.array([1.0])})
    assert mixed(0.4, 99.0).item() == pytest.approx(with_weights(out__bias=np.array([0.4])))  # an entry is the number


@pytest.mark.parametrize("compiled", [False, "auto"])
def test_it_can_be_differentiated(compiled):
    model = Net()
    model.forward = lambda xs: model.out(tg.scan(model.cell, xs, compiled=compiled)[0])
    f = along(model, loss, XS, ("cell.bias_ih", 2), random_direction(model, 0))
    g = tg.grad(f, (0, 1))(0.2, 0.1)
    h = 1e-5
    for i, (da, db) in enumerate([(h, 0), (0, h)]):
        slope = (f(0.2 + da, 0.1 + db).item() - f(0.2 - da, 0.1 - db).item()) / (2 * h)
        assert g[i].item() == pytest.approx(slope, rel=1e-6)
    found = profile(along(model, loss, XS, ("cell.bias_ih", 2)), np.array([0.1, 0.2]))
    np.testing.assert_allclose(found.slopes[1], tg.grad(lambda a: f(a, 0.0))(0.2).item(), rtol=1e-10)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(2, 4, rng=0), nn.Dropout(0.5, rng=1), nn.Linear(4, 1, rng=2))
    (model(XS[0].astype(np.float32)) ** 2).sum().backward()

    def state():
        draws = model.layers[1].rng.bit_generator.state if hasattr(model, "layers") else None
        return {
            n: (p.data.tobytes(), p.grad.data.tobytes(), id(p.node), p.requires_grad)
            for n, p in model.named_parameters()
        }, draws

    before, name = state(), next(name for name, p in model.named_parameters() if p.ndim == 1)
    xs = XS[0].astype(np.float32)
    f = along(model, loss, xs, (name, 0))
    values = {f(0.5).item() for _ in range(3)}
    assert len(values) == 1  # what is dropped is the same each time
    descent(f, (0.5,), lr=0.1, steps=3)
    surface(lambda a, b: f(a), [0.0, 0.5, 1.0], [0.0, 0.5, 1.0])
    assert state() == before

    def fails(model, batch):
        raise KeyError("oops")

    with pytest.raises(KeyError, match="oops"):
        along(model, fails, xs, (name, 0))(0.5)
    with pytest.raises(KeyError):
        surface(lambda a, b: along(model, fails, xs, (name, 0))(a), GRID, GRID)
    assert state() == before


def test_single_precision_stays():
    model = nn.Linear(2, 1, rng=0)
    f = along(model, lambda m, x: m(x).sum(), np.ones((1, 2), np.float32), ("bias", 0))
    assert f(0.3).dtype == np.float32 and f(tg.tensor(0.3)).dtype == np.float32


def test_checkpoints_do_not_make_it_wrong():
    """They compute again on the way back, when the model has its own weights again: that is refused."""
    model = nn.Recurrent([nn.RNNCell(2, 3, rng=0, dtype=np.float64)], checkpoint=8)
    plain = nn.Recurrent([nn.RNNCell(2, 3, rng=0, dtype=np.float64)])
    name = next(n for n, p in model.named_parameters() if p.ndim == 1)
    f, g = (along(m, lambda m, xs: (m(xs)[0] ** 2).mean(), XS, (name, 0)) for m in (model, plain))
    assert f(0.4).item() == pytest.approx(g(0.4).item(), rel=1e-12)
    with pytest.raises(ValueError, match=r"Recurrent computes parts .*set .checkpoint = False"):
        tg.grad(f)(0.4)
    model.checkpoint = False
    assert tg.grad(f)(0.4).item() == tg.grad(g)(0.4).item()


def test_random_directions_are_as_long_as_the_weights():
    model = Net()
    found = random_direction(model, 3)
    for name, p in model.named_parameters():
        rows = (found[name], p.numpy()) if p.ndim > 1 else (found[name][None], p.numpy()[None])
        np.testing.assert_allclose(*(np.linalg.norm(r, axis=1) for r in rows), rtol=1e-12)
        np.testing.assert_array_equal(random_direction(model, 3)[name], found[name])
    raw = random_direction(model, np.random.default_rng(3), normalize=False)
    draws = np.random.default_rng(3)
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(raw[name], draws.standard_normal(p.shape))


# What is refused ------------------------------------------------------------------------------------------------------


GRID = np.linspace(0, 1, 3)
MODEL = Net()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surface(3, GRID, GRID), r"f: expected a function f\(a, b\)"),
        (lambda: surface(cliff, GRID[::-1], GRID), "a: .*larger than the one before"),
        (lambda: surface(cliff, GRID, np.array([0.0, 1.0, np.nan])), "b: expected finite"),
        (lambda: surface(cliff, GRID, 1.0), "b: expected at least 3 numbers"),
        (lambda: surface(cliff, (-1, 1), (-1, 1)), r"a: expected at least 3 numbers .*np\.linspace\(0, 1, 50\)"),
        (
            lambda: surface(along(MODEL, loss, XS, ("out.bias", 0), ("out.weight", (0, 0))), GRID, GRID,
                            vectorized=True),
            r"f: expected single numbers, got .*\(3, 3\): .* vectorized=False",
        ),
        (
            lambda: profile(along(MODEL, loss, XS, ("out.bias", 0)), GRID, vectorized=True),
            r"f: expected single numbers, got .*\(3,\): .* vectorized=False",
        ),
        (lambda: surface(lambda a, b: tg.tensor([a, b]), GRID, GRID), r"f: .*a single .*float64 \(2,\)"),
        (lambda: surface(lambda a, b: a.sum(), GRID, GRID, vectorized=True), r"f, vectorized: .*array \(3, 3\)"),
        (lambda: surface(lambda a, b: 1, GRID, GRID), "f: expected it to return a single floating-point number, got 1"),
        (lambda: profile(cliff, "abc"), "values: expected at least 2"),
        (lambda: profile(lambda v: 3.0, GRID), "no tensor"),
        (lambda: profile(lambda v: tg.stack([tg.stack([v, v])]), GRID), r"f: expected it to return \(\) or"),
        (lambda: profile(lambda v: v.sum(), GRID, vectorized=True), r"f: expected it to return \(3,\) or"),
        (lambda: descent(cliff, np.array([5, -2]), 0.1, 3), r"start: expected floating-point .*astype\(float\)"),
        (lambda: descent(cliff, (5.0, np.inf), 0.1, 3), "start: expected finite"),
        (lambda: descent(cliff, (5.0, 1.0), -1, 3), "lr: "),
        (lambda: descent(cliff, (5.0, 1.0), 0.1, 3.5), "steps: "),
        (lambda: descent(cliff, (5.0, 1.0), 0.1, 3, clip=0), "max_norm: "),
        (lambda: descent(lambda a: tg.stack([a, a]), (5.0,), 0.1, 3), r"f: expected it to return a single"),
        (lambda: along(3, loss, XS, ("out.bias", 0)), "model: expected a Module"),
        (lambda: along(MODEL, 3, XS, ("out.bias", 0)), "loss: expected a function"),
        (lambda: along(MODEL, loss, XS, ("bias", 0)), "first: .*one of cell.weight_ih, .*out.bias; got 'bias'"),
        (lambda: along(MODEL, loss, XS, ("out.bias", 0), ("out.bias", 1)), "second: out.bias is float64"),
        (lambda: along(MODEL, loss, XS, ("out.weight", 0)), "first: expected the index of one entry"),
        (lambda: along(MODEL, loss, XS, "out.bias"), "first: expected "),
        (lambda: along(MODEL, loss, XS, {}), "first: expected "),
        (lambda: along(MODEL, loss, XS, ("out.weight", (0, 0)), ("out.weight", (0, 0))), r"second: .*got the same"),
        (lambda: along(MODEL, loss, XS, ("out.bias", 0), ("out.bias", (-1,))), r"second: .*\('out.bias', 0\), got the"),
        (lambda: descent(lambda a: 1.0, (5.0,), 0.1, 3), "f: expected it to return a tensor.*got 1.0"),
        (lambda: along(MODEL, loss, XS, {"x": np.ones(1)}), "first: .*one of cell.weight_ih"),
        (lambda: along(MODEL, loss, XS, {"out.bias": np.ones(2)}), r"first\['out.bias'\]: expected float64 \(1,\)"),
        (lambda: along(MODEL, loss, XS, {"out.bias": np.ones(1, "f")}), r"first\['out.bias'\]: expected float64"),
        (lambda: along(MODEL, loss, XS, {"out.bias": [1.0]}), r"first\['out.bias'\]: expected float64"),
        (lambda: along(MODEL, loss, XS, ("out.bias", 0))(1.0, 2.0), "f: expected 1 number, .*second="),
        (lambda: random_direction(3, 0), "model: expected a Module"),
    ],
)  # fmt: skip
def test_what_is_refused(call, message):
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        call()


def test_figures():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    w, b = np.linspace(4.2, 5.4, 9), np.linspace(-3, -1.8, 8)
    hills = surface(cliff, w, b, vectorized=True)
    samples = profile(lambda v: (v - GRID) ** 2, GRID)
    results = [hills, samples, profile(tg.sin, GRID), descent(cliff, (5.0, -2.5), 0.01, 5)]
    for result in results:
        _, ax = plt.subplots()
        assert result.plot(ax) is ax
        ax.figure.canvas.draw()
        assert result.plot() is not ax and repr(result)
        plt.close("all")
    (mesh,) = hills.plot(contours=3, log=False).collections[:1]
    np.testing.assert_array_equal(mesh.get_array().ravel(), hills.values.ravel())
    ax = plt.figure().add_subplot(projection="3d")
    assert hills.plot(ax).get_zlabel() == "log10 of the loss"
    assert samples.plot(slopes=True).get_yscale() == "log"
    with pytest.raises(ValueError, match="a way of 1 numbers is not drawn"):
        descent(lambda a: a * a, (1.0,), 0.1, 2).plot()
    plt.close("all")


def test_a_long_run_is_shown_in_a_notebook(monkeypatch):
    """Where stderr is no terminal; and not in a file."""
    import io

    pytest.importorskip("tqdm")
    from tinygrad_rnn import progress

    def shown(stream, wanted=True):
        clock = iter(range(0, 1000, 10))
        monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
        monkeypatch.setattr("sys.stderr", stream)
        assert list(progress.counted(range(3), wanted, "walk")) == [0, 1, 2]
        return stream.getvalue()

    kernel = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    assert "walk" in shown(kernel()) and not shown(kernel(), False) and not shown(io.StringIO())


def test_a_long_run_is_shown(monkeypatch, capsys):
    from tinygrad_rnn.analysis import landscape

    seen = []

    def counted(items, progress, description):
        seen.append((len(items), progress, description))
        return iter(items)

    monkeypatch.setattr(landscape, "counted", counted)
    for progress in (True, False):
        surface(lambda a, b: a + b, GRID, GRID, progress=progress)
        profile(tg.sin, GRID, progress=progress)
    assert seen == [*itertools.chain(*[[(9, p, "surface"), (3, p, "profile")] for p in (True, False)])]
