"""Readouts: against the equations solved directly, scikit-learn's and NumPy's solvers, and each other."""

from __future__ import annotations

import copy
import itertools
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import readout as readouts


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def by_normal_equations(x, y, ridge, intercept):
    """With c as the weight of a column of ones, which alone is not penalised."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1) if intercept else x
    penalty = ridge * np.eye(x.shape[1])
    if intercept:
        penalty[-1, -1] = 0
    w = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    return (w[:-1].T, w[-1]) if intercept else (w.T, np.zeros(y.shape[1]))


# Ridge ----------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000), samples=st.integers(1, 30), features=st.integers(1, 8), outputs=st.integers(1, 3),
    ridge=st.sampled_from([1e-3, 1.0, 100.0]), intercept=st.booleans(), cuts=st.lists(st.integers(0, 30), max_size=3),
)  # fmt: skip
def test_all_at_once_or_in_pieces_it_is_the_solution(seed, samples, features, outputs, ridge, intercept, cuts):
    x, y = draw(samples, features, seed=seed) + 2, draw(samples, outputs, seed=seed + 1) - 3
    weight, c = by_normal_equations(x, y, ridge, intercept)
    edges = [0, *sorted(min(cut, samples) for cut in cuts), samples]
    pieces = nn.Ridge(ridge, intercept)
    for a, b in itertools.pairwise(edges):
        pieces.partial_fit(x[a:b], y[a:b])
    for found in (nn.Ridge(ridge, intercept).fit(x, y), nn.Ridge(ridge, intercept, "svd").fit(x, y), pieces):
        np.testing.assert_allclose(found.weight, weight, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.intercept, c, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.predict(x), x @ weight.T + c, rtol=1e-7, atol=1e-8)


def test_it_is_scikit_learns():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = draw(200, 30) * np.logspace(-2, 2, 30), draw(200, 2)
    for ridge in (1e-6, 1.0, 1e4):
        theirs = linear_model.Ridge(alpha=ridge, solver="svd").fit(x, y)
        ours = nn.Ridge(ridge).fit(x, y)
        np.testing.assert_allclose(ours.weight, theirs.coef_, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(ours.intercept, theirs.intercept_, rtol=1e-8, atol=1e-10)


def test_any_axes_before_the_last_are_samples():
    x, y = draw(20, 3, 5), draw(20, 3, 2)
    ours, flat = nn.Ridge(0.1).fit(x, tg.tensor(y)), nn.Ridge(0.1).fit(x.reshape(60, 5), y.reshape(60, 2))
    np.testing.assert_array_equal(ours.weight, flat.weight)
    assert ours.predict(tg.tensor(x)).shape == (20, 3, 2) and ours.predict(x[0, 0]).shape == (2,)


def test_single_precision_is_computed_in_double():
    x, y = draw(50, 5).astype(np.float32), draw(50, 1).astype(np.float32)
    weight, _ = by_normal_equations(x.astype(float), y.astype(float), 1e-3, True)
    np.testing.assert_allclose(nn.Ridge(1e-3).fit(x, y).weight, weight, rtol=1e-10)


def test_the_solver_is_chosen_by_the_condition_number():
    x, y = draw(100, 10), draw(100, 1)
    well = nn.Ridge(1e-6).fit(x, y)
    assert well.solved_by == "cholesky" and well.condition < 1e12
    unpenalised = nn.Ridge(0).fit(x, y)  # what is well conditioned needs no ridge
    values = np.linalg.eigvalsh(np.cov(x.T) * 99)
    assert unpenalised.solved_by == "cholesky" and unpenalised.condition == pytest.approx(values[-1] / values[0])
    bad = x * np.logspace(0, -7, 10)
    badly = nn.Ridge(0).fit(bad, y)
    assert badly.solved_by == "svd" and badly.condition == pytest.approx(
        np.linalg.cond(bad - bad.mean(0)) ** 2, rel=1e-5
    )
    exact, *_ = np.linalg.lstsq(bad - bad.mean(axis=0), y - y.mean(axis=0))
    np.testing.assert_allclose(badly.weight, exact.T, rtol=1e-8)
    assert nn.Ridge(1e-6, solver="svd").fit(x, y).solved_by == "svd"


def test_svd_is_right_where_cholesky_is_not():
    """Targets that are a function of directions so short that their squares are lost beside the others'."""
    q = np.linalg.qr(draw(6, 6, seed=2))[0]
    x, w = draw(200, 6) * np.logspace(0, -6.5, 6) @ q, np.logspace(0, 6.5, 6)[None] @ q
    error = {s: np.abs(nn.Ridge(1e-22, solver=s).fit(x, x @ w.T).weight / w - 1).max() for s in ("auto", "cholesky")}
    assert error["auto"] < 1e-8 and error["cholesky"] > 1e-5
    with pytest.warns(nn.ConditionWarning, match="condition number is .*; the solution may be far off"):
        nn.Ridge(1e-17, solver="cholesky").fit(np.ones((9, 2)) + [[0, 1]] * np.eye(9)[:, :1], Y[:9])


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "in pieces"])
def test_more_features_than_samples_without_a_ridge(in_pieces):
    """The smallest of all solutions, and a warning with the condition number."""
    x, y = draw(10, 30), draw(10, 2)
    ours = nn.Ridge(0)
    fit = (lambda: ours.partial_fit(x, y).weight) if in_pieces else (lambda: ours.fit(x, y))
    with pytest.warns(nn.ConditionWarning, match=r"10 samples do not determine .* 30 features .*condition number is "):
        fit()
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(ours.weight, (np.linalg.pinv(centred) @ (y - y.mean(axis=0))).T, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.predict(x), y, atol=1e-8)


def test_a_column_twice_without_a_ridge():
    x = draw(50, 3)
    with pytest.warns(nn.ConditionWarning, match="the samples do not determine the weights: the condition number is"):
        ours = nn.Ridge(0).fit(np.concatenate([x, x], axis=1), x[:, :1])
    np.testing.assert_allclose(ours.weight, [[0.5, 0, 0, 0.5, 0, 0]], atol=1e-12)


def test_nothing_is_lost_to_a_large_mean():
    """Pieces whose mean is a thousand million times their deviation: against exact fractions. (Of sums of squares that
    are not centred, not one digit would be left.)"""
    x = 1e9 + np.random.default_rng(0).integers(-4, 5, 40).astype(float)
    y = 3 * (x - 1e9) + 7
    ours = nn.Ridge(0)
    for i in range(0, 40, 10):
        ours.partial_fit(x[i : i + 10, None], y[i : i + 10, None])
    fx, fy = [[Fraction(int(v)) for v in a] for a in (x, y)]
    mx, my = sum(fx) / 40, sum(fy) / 40
    slope = sum((a - mx) * (b - my) for a, b in zip(fx, fy)) / sum((a - mx) ** 2 for a in fx)
    np.testing.assert_allclose(ours.weight[0, 0], float(slope), rtol=1e-7)
    np.testing.assert_allclose(ours.predict(x[:, None])[:, 0], y, atol=1e-4)


def test_pieces_take_no_more_memory():
    ours = nn.Ridge(1e-3)
    sizes = set()
    for seed in range(5):
        ours.partial_fit(draw(100, 7, seed=seed), draw(100, 2, seed=seed))
        sizes.add(len(pickle.dumps(ours)))
    assert max(sizes) - min(sizes) < 100


def test_it_can_be_copied_and_pickled():
    x, y = draw(30, 4), draw(30, 1)
    for ours in (nn.Ridge(0.1).fit(x, y), nn.RLS().fit(x, y)):
        for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            twin.partial_fit(2 * x, y)
            assert (twin.predict(x) != ours.predict(x)).any()
            np.testing.assert_array_equal(twin.weight, copy.deepcopy(ours).partial_fit(2 * x, y).weight)


X, Y = draw(20, 3), draw(20, 1)
NAN = np.where(np.arange(60).reshape(20, 3) == 31, np.nan, X)
REFUSED = {
    "another length": (X, Y[:-1], ValueError, r"X, Y: expected .* got float64 \(20, 3\) and float64 \(19, 1\)"),
    "no axis of features": (X[:, 0], Y[:, 0], ValueError, "X, Y: expected"),
    "NaN in X": (NAN, Y, ValueError, "X: expected finite numbers, got nan in sample 10"),
    "infinity in Y": (X, np.full_like(Y, np.inf), ValueError, "Y: expected finite numbers"),
    "no samples": (X[:0], Y[:0], ValueError, "X: expected samples, got none"),
    "complex numbers": (X + 0j, Y, TypeError, "X: expected real numbers"),
    "words": ([["a"]], Y[:1], TypeError, "X: expected real numbers"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_samples_that_are_refused_change_nothing(kind):
    x, y, error, message = REFUSED[kind]
    ours = nn.Ridge(0.1).fit(X, Y)
    before = ours.weight.copy()
    with pytest.raises(error, match=message):
        ours.fit(x, y)
    np.testing.assert_array_equal(ours.weight, before)
    if kind != "no samples":
        with pytest.raises(error, match=message):
            ours.partial_fit(x, y)
        np.testing.assert_array_equal(ours.weight, before)


def test_settings_and_uses_that_are_refused():
    for ridge in (-1e-9, np.nan, np.inf, "much"):
        with pytest.raises(ValueError, match="ridge: expected a finite number, at least 0"):
            nn.Ridge(ridge)
    with pytest.raises(ValueError, match="solver: expected 'auto', 'cholesky' or 'svd'"):
        nn.Ridge(solver="lu")
    for ours in (nn.Ridge(), nn.RLS()):
        assert ours.weight is None and ours.intercept is None
        with pytest.raises(RuntimeError, match="it is not fitted yet: call fit"):
            ours.predict(X)
        ours.fit(X, Y)
        with pytest.raises(tg.errors.ShapeError, match="X: expected 3 features"):
            ours.predict(X[:, :2])
        with pytest.raises(tg.errors.ShapeError, match="expected 3 features and 1 outputs, as before, got 2 and 1"):
            ours.partial_fit(X[:, :2], Y)
    for keywords in ({"delta": 0}, {"delta": -1}, {"forgetting": 0}, {"forgetting": 1.1}):
        with pytest.raises(ValueError, match=f"{next(iter(keywords))}: expected"):
            nn.RLS(**keywords)
    with pytest.raises(np.linalg.LinAlgError, match=r"condition number is .*solver='svd'"):
        nn.Ridge(0, solver="cholesky").fit(np.zeros((5, 2)), Y[:5])


# Step by step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intercept", [False, True])
def test_recursive_least_squares_is_ridge(intercept):
    x, y = draw(100, 6), draw(100, 2)
    ours = nn.RLS(delta=0.5, intercept=intercept)
    for i in range(0, 100, 25):
        ours.partial_fit(x[i : i + 25], y[i : i + 25])
    joined = np.concatenate([x, np.ones((100, 1))], axis=1) if intercept else x
    w = np.linalg.solve(joined.T @ joined + 0.5 * np.eye(joined.shape[1]), joined.T @ y).T
    np.testing.assert_allclose(ours.weight, w[:, :6], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ours.intercept, w[:, 6] if intercept else 0, rtol=1e-9, atol=1e-11)


def test_forgetting_weighs_samples_by_their_age():
    x, y, rate, delta = draw(60, 4), draw(60, 1), 0.9, 0.3
    weights = rate ** np.arange(59, -1, -1.0)
    a = x.T @ (weights[:, None] * x) + rate**60 * delta * np.eye(4)
    ours = nn.RLS(delta, rate, intercept=False).fit(x, y)
    np.testing.assert_allclose(ours.weight[0], np.linalg.solve(a, x.T @ (weights * y[:, 0])), rtol=1e-9)


def test_fit_begins_anew():
    x, y = draw(30, 3), draw(30, 1)
    ours = nn.RLS().fit(2 * x, y).fit(x, y)
    np.testing.assert_array_equal(ours.weight, nn.RLS().fit(x, y).weight)
    assert nn.RLS().fit(x, y).fit(x[:, :2], y).weight.shape == (1, 2)


def test_force_is_its_equations():
    """Sussillo and Abbott's, in plain NumPy, step by step."""
    cell = nn.Reservoir(1, 15, feedback_size=2, leak=0.5, spectral_radius=1.3, bias_scaling=0.2, rng=0)
    x, target = draw(60, 1), np.stack([np.sin(np.arange(60) / 5), np.cos(np.arange(60) / 5)], axis=1)
    w, w_ih, b = cell.matrix(), cell.weight_ih.numpy(), cell.bias.numpy()
    h, z, p, out, errors = np.zeros(15), np.zeros(2), np.eye(15) / 2.0, np.zeros((15, 2)), []
    for t in range(60):
        h = 0.5 * h + 0.5 * np.tanh(w_ih @ np.concatenate([x[t], z]) + w @ h + b)
        error = out.T @ h - target[t]
        errors.append(-error)
        if t % 3 == 0:
            p = p - np.outer(p @ h, h @ p) / (1 + h @ p @ h)
            out = out - np.outer(p @ h, error)
        z = out.T @ h
    force = nn.FORCE(cell, nn.RLS(delta=2.0, intercept=False), every=3)
    parts = [force.fit(target[a:b], x[a:b]) for a, b in ((0, 20), (20, 60))]
    np.testing.assert_allclose(np.concatenate(parts), errors, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(force.readout.weight, out.T, rtol=1e-7, atol=1e-9)
    free = []
    for t in range(5):
        h = 0.5 * h + 0.5 * np.tanh(w_ih @ np.concatenate([x[t], z]) + w @ h + b)
        z = out.T @ h
        free.append(z)
    np.testing.assert_allclose(force.run(5, x[:5]), free, rtol=1e-7, atol=1e-9)


def test_force_learns_a_rhythm():
    target = np.sin(np.arange(1800) / 8)[:, None]
    cell = nn.Reservoir(0, 100, feedback_size=1, spectral_radius=1.5, leak=0.3, bias_scaling=0.5, rng=0)
    force = nn.FORCE(cell)
    errors = force.fit(target[:1500])
    assert np.abs(errors[200:]).max() < 0.2 and np.abs(errors[-100:]).max() < 0.02
    before = force.readout.weight.copy()
    assert np.abs(force.run(300) - target[1500:]).max() < 0.1  # whole periods, by itself
    np.testing.assert_array_equal(force.readout.weight, before)


def test_force_refuses():
    cell = nn.Reservoir(1, 10, feedback_size=1, density=1.0, rng=0)
    with pytest.raises(RuntimeError, match="FORCE: it is not fitted yet"):
        nn.FORCE(cell).run(3)
    with pytest.raises(
        tg.errors.ShapeError, match=r"X: expected \(5, 1\), as the reservoir hears 2 features, 1 of which"
    ):
        nn.FORCE(cell).fit(Y[:5])
    with pytest.raises(ValueError, match="Y: expected finite numbers"):
        nn.FORCE(cell).fit(np.full((5, 1), np.nan), X[:5, :1])
    for every in (0, 1.5):
        with pytest.raises(ValueError, match="every: expected a whole number"):
            nn.FORCE(cell, every=every)
    wild = nn.Reservoir(1, 10, feedback_size=1, density=1.0, nonlinearity="linear", spectral_radius=1e200, rng=0)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"not finite at step \d"):
        nn.FORCE(wild).fit(draw(9, 1), 1e200 * draw(9, 1))


def test_condition_numbers():
    assert readouts.condition_of(4.0, 2.0) == 2
    assert readouts.condition_of(4.0, 0.0) == np.inf
    assert readouts.condition_of(0.0, 0.0) == np.inf


def test_features_that_never_change_say_nothing():
    """Then XᵀX is 0, and nothing of it can be inverted."""
    ridge = nn.Ridge(ridge=0)
    with pytest.warns(nn.ConditionWarning, match="do not determine"):
        ridge.fit(np.ones((5, 2)), np.arange(5.0)[:, None])
    np.testing.assert_allclose(ridge.predict(np.ones((1, 2))), [[2.0]])
