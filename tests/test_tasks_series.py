"""The series: against their equations written out step by step, SciPy's solvers, and what their docstrings say."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from tinygrad_rnn import tasks
from tinygrad_rnn.tasks import series

# What all have in common ----------------------------------------------------------------------------------------------

MAKERS = {
    "narma10": lambda **kw: tasks.narma10(60, **kw)[1],
    "narma10's inputs": lambda **kw: tasks.narma10(60, **kw)[0],
    "mackey_glass": lambda **kw: tasks.mackey_glass(60, washout=10, **kw),
    "mackey_glass, rk4": lambda **kw: tasks.mackey_glass(60, method="rk4", step=1, stride=1, washout=10, **kw),
    "lorenz": lambda **kw: tasks.lorenz(60, washout=10, **kw),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_same_seed_makes_the_same_bits_and_another_one_others(make):
    a, b, other = make(rng=7, batch=3), make(rng=np.random.default_rng(7), batch=3), make(rng=8, batch=3)
    assert a.shape[:2] == (60, 3) and a.dtype == np.float64 and a.flags.writeable
    assert np.array_equal(a, b) and not np.isclose(a, other).all(axis=(0, 2)).any()
    assert not np.isclose(a[:, 0], a[:, 1]).all(), "two series of a batch are the same"


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "2"])
def test_a_batch_that_is_no_number_of_series(make, batch):
    with pytest.raises(ValueError, match="batch: expected a whole number, at least 1"):
        make(batch=batch)


# NARMA ----------------------------------------------------------------------------------------------------------------


def test_narma_is_its_recurrence():
    u, d = tasks.narma10(200, batch=2, rng=3)
    assert ((u >= 0) & (u < 0.5)).all()
    for b in range(2):
        y = dict.fromkeys(range(-9, 1), 0.0)
        x = dict.fromkeys(range(-9, 0), 0.0) | dict(enumerate(u[:, b, 0].tolist()))
        for n in range(200):
            y[n + 1] = 0.3 * y[n] + 0.05 * y[n] * sum(y[n - i] for i in range(10)) + 1.5 * x[n - 9] * x[n] + 0.1
        np.testing.assert_allclose(d[:, b, 0], [y[n + 1] for n in range(200)], rtol=1e-13)


def test_a_narma_series_that_diverges_is_drawn_again_and_said():
    with pytest.warns(RuntimeWarning, match=r"narma10: \d+ of 40 series diverged, and are drawn again") as said:
        u, d = tasks.narma10(3000, batch=40, high=0.54, rng=0)
    assert said[0].filename == __file__
    assert d.max() < 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = tasks.narma10(3000, batch=40, high=0.54, rng=0)
    assert np.array_equal(u, again[0]) and np.array_equal(d, again[1])
    np.testing.assert_allclose(d, series._narma10(u[..., 0])[..., None], rtol=1e-9)  # the targets belong to the inputs


def test_a_narma_system_that_always_diverges_is_refused(monkeypatch):
    monkeypatch.setattr(series, "REDRAWS", 2)
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(ValueError, match=r"length=500, high=2.0: 2 times in a row a series diverged"),
    ):
        tasks.narma10(500, high=2.0, rng=0)
    for high in (0, -1, np.inf, np.nan):
        with pytest.raises(ValueError, match="high: expected a finite number above 0"):
            tasks.narma10(10, high=high)


def test_a_linear_filter_gets_what_the_docstring_says():
    u, d = (x[:, 0, 0] for x in tasks.narma10(4000, rng=1))
    past = np.stack([u[9 - i : len(u) - i] for i in range(10)] + [np.ones(len(u) - 9)], axis=1)
    d = d[9:]
    weights = np.linalg.lstsq(past[200:2200], d[200:2200])[0]
    assert tasks.nmse(past[2200:] @ weights, d[2200:]) == pytest.approx(0.37, abs=0.02)


# Mackey and Glass -----------------------------------------------------------------------------------------------------


def plain_euler(y0, steps, lag, step):
    y = [y0] * (lag + 1)  # the last one is y(0)
    for _ in range(steps):
        delayed = y[-1 - lag]
        y.append(y[-1] + step * (0.2 * delayed / (1 + delayed**10) - 0.1 * y[-1]))
    return np.array(y[lag:])


@pytest.mark.parametrize(("tau", "step", "stride"), [(17, 0.1, 10), (30, 0.5, 3), (2, 1.0, 1)])
def test_mackey_glass_by_euler(tau, step, stride):
    y = tasks.mackey_glass(40, tau, step=step, stride=stride, washout=0, rng=5)
    assert 1.1 <= y[0, 0, 0] < 1.3
    expected = plain_euler(y[0, 0, 0], 39 * stride, round(tau / step), step)[::stride]
    np.testing.assert_allclose(y[:, 0, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("tau", [17, 30])
def test_mackey_glass_by_runge_and_kutta_is_what_scipy_gets_delay_by_delay(tau):
    integrate = pytest.importorskip("scipy.integrate")
    y = tasks.mackey_glass(4 * tau + 1, tau, method="rk4", washout=0, rng=2)[:, 0, 0]
    before = lambda t: np.array([y[0]])  # noqa: E731
    for part in range(4):
        start, end = part * tau, (part + 1) * tau
        slope = lambda t, y, p=before: 0.2 * p(t - tau) / (1 + p(t - tau) ** 10) - 0.1 * y  # noqa: E731
        first = y[:1] if part == 0 else solved.y[:, -1]  # noqa: F821
        solved = integrate.solve_ivp(slope, (start, end), first, "DOP853", dense_output=True, rtol=1e-12, atol=1e-12)
        times = np.arange(start, end + 1)
        np.testing.assert_allclose(y[times], solved.sol(times)[0], atol=1e-6)
        before = solved.sol


def test_runge_and_kuttas_error_falls_with_the_fourth_power_of_the_step():
    fine, middle, coarse = (
        tasks.mackey_glass(60, method="rk4", step=s, stride=round(1 / s), washout=0, rng=2) for s in (0.05, 0.25, 0.5)
    )
    assert 10 < abs(coarse - fine).max() / abs(middle - fine).max() < 25


def test_mackey_glass_is_squashed_as_jaegers_and_its_start_is_forgotten():
    y, squashed = (tasks.mackey_glass(300, squash=s, rng=4) for s in (False, True))
    np.testing.assert_array_equal(squashed, np.tanh(y - 1))
    assert y.min() > 0.4 and y.max() < 1.34
    assert tasks.mackey_glass(5000, rng=0).mean() == pytest.approx(0.93, abs=0.01)
    whole = tasks.mackey_glass(30, washout=0, rng=0)
    np.testing.assert_array_equal(tasks.mackey_glass(20, washout=10, rng=0), whole[10:])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"method": "heun"}, "method: expected 'euler' or 'rk4', got 'heun'"),
        ({"tau": 17, "step": 0.3}, "the delay has to be a whole number of steps, and 17 / 0.3 is none"),
        ({"tau": 0.01}, "the delay has to be a whole number of steps"),
        ({"tau": 0}, "tau, step: expected finite numbers above 0"),
        ({"step": np.nan}, "tau, step: expected finite numbers above 0"),
        ({"stride": 0}, "stride: expected a whole number, at least 1"),
        ({"washout": -1}, "washout: expected a whole number, at least 0"),
    ],
)
def test_mackey_glass_says_what_is_wrong(keywords, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tasks.mackey_glass(10, **keywords)


# Lorenz ---------------------------------------------------------------------------------------------------------------


def test_lorenz_is_what_scipy_gets():
    integrate = pytest.importorskip("scipy.integrate")
    start = np.array([[1.0, 1.0, 1.0], [-3.0, 2.0, 20.0]])
    s = tasks.lorenz(101, washout=0, start=start, batch=2)
    equations = lambda t, s: [10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]]  # noqa: E731
    for b in range(2):
        solved = integrate.solve_ivp(
            equations, (0, 2), start[b], "DOP853", t_eval=np.linspace(0, 2, 101), rtol=1e-12, atol=1e-12
        )
        np.testing.assert_allclose(s[:, b], solved.y.T, atol=2e-4)


def test_lorenz_stays_on_the_attractor_around_its_two_centres():
    s = tasks.lorenz(3000, batch=2, rng=1)
    x, _, z = np.moveaxis(s, -1, 0)
    assert abs(x).max() < 21 and z.min() > 0 and z.max() < 49
    assert (x < -5).any() and (x > 5).any()
    np.testing.assert_array_equal(tasks.lorenz(30, washout=20, rng=1), tasks.lorenz(50, washout=0, rng=1)[20:])


@pytest.mark.parametrize(("ahead", "again", "linear"), [(1, 0.008, 0.006), (5, 0.18, 0.12)])
def test_lorenz_has_the_baselines_of_the_docstring(ahead, again, linear):
    s = tasks.lorenz(6000, rng=0)[:, 0]
    assert tasks.nmse(s[:-ahead], s[ahead:]) == pytest.approx(again, rel=0.1)
    past = np.column_stack([s[:-ahead], np.ones(len(s) - ahead)])
    weights = np.linalg.lstsq(past[:3000], s[ahead : 3000 + ahead])[0]
    assert tasks.nmse(past[3000:] @ weights, s[3000 + ahead :]) == pytest.approx(linear, rel=0.1)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"step": 1.0, "substeps": 1, "washout": 50}, "with steps of 1 the method diverges"),
        ({"step": 0}, "step: expected a finite number above 0"),
        ({"substeps": 0}, "substeps: expected a whole number, at least 1"),
        ({"start": [1, 2]}, "start: expected finite numbers, (3,) or (1, 3)"),
        ({"start": [1, 2, np.inf]}, "start: expected finite numbers"),
        ({"start": np.ones((3, 3)), "batch": 2}, "(3,) or (2, 3)"),
    ],
)
def test_lorenz_says_what_is_wrong(keywords, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tasks.lorenz(10, **keywords)


# Sines ----------------------------------------------------------------------------------------------------------------


def test_sines_are_added():
    n = np.arange(50)
    y = tasks.multiple_sines(50)
    np.testing.assert_allclose(y[:, 0, 0], np.sin(0.2 * n) + np.sin(0.311 * n), atol=1e-12)
    y = tasks.multiple_sines(50, [0.1, 2.0, 0.1], start=[0, 7.5])
    np.testing.assert_allclose(y[:, 1, 0], 2 * np.sin(0.1 * (n + 7.5)) + np.sin(2 * (n + 7.5)), atol=1e-12)
    assert y.shape == (50, 2, 1)


@pytest.mark.parametrize("sines", [2, 5, 8])
def test_sines_follow_a_linear_recurrence(sines):
    y = tasks.multiple_sines(300, sines)[:, 0, 0]
    roots = np.exp(1j * np.outer([0.2, 0.311, 0.42, 0.51, 0.63, 0.74, 0.85, 0.97][:sines], [1, -1])).ravel()
    residual = np.convolve(y, np.poly(roots).real, "valid")
    assert abs(residual).max() < 1e-9


@pytest.mark.parametrize("sines", [0, 9, [], [[0.1]], [np.nan]])
def test_sines_that_are_none(sines):
    with pytest.raises(ValueError, match="sines: expected"):
        tasks.multiple_sines(10, sines)
    with pytest.raises(ValueError, match="start: expected"):
        tasks.multiple_sines(10, start=[[1.0]])


# Sunspots -------------------------------------------------------------------------------------------------------------


def test_sunspots_are_those_that_statsmodels_has():
    years, numbers = tasks.sunspots()
    assert years.tolist() == list(range(1700, 2009)) and len(numbers) == 309
    assert numbers[[0, 57, 257, 308]].tolist() == [5.0, 32.4, 190.2, 2.9]  # 1700, 1757, the greatest: 1957, 2008
    statsmodels = pytest.importorskip("statsmodels.datasets.sunspots")
    np.testing.assert_array_equal(numbers, statsmodels.load_pandas().data["SUNACTIVITY"])


@pytest.mark.parametrize(("order", "expected"), [(9, (0.133, 0.126, 0.351)), (12, (0.132, 0.130, 0.368))])
def test_a_linear_autoregression_gets_what_the_docstring_says(order, expected):
    data = tasks.sunspots()
    y = data.numbers
    past = np.stack([y[order - 1 - k : len(y) - 1 - k] for k in range(order)] + [np.ones(len(y) - order)], axis=1)
    known = data.between(1700 + order, 1920)
    rows = slice(0, known.stop - known.start)
    weights = np.linalg.lstsq(past[rows], y[known])[0]
    told = np.concatenate([np.full(order, np.nan), past @ weights])
    spans = ((1700 + order, 1920), (1921, 1955), (1956, 1979))
    found = [data.arv(told[data.between(*span)], *span) for span in spans]
    np.testing.assert_allclose(found, expected, atol=6e-4)
    same = data.arv(np.roll(y, 1)[data.between(1921, 1955)], 1921, 1955)
    assert same == pytest.approx(0.427, abs=6e-4)  # the number of the year before
    with pytest.raises(ValueError, match="predictions: expected 35, one for each year"):
        data.arv(told, 1921, 1955)


def test_years():
    data = tasks.sunspots()
    assert data.years[data.between(1921, 1955)].tolist() == list(range(1921, 1956))
    for span in ((1699, 1800), (1800, 2009), (1900, 1899)):
        with pytest.raises(ValueError, match="first, last: expected years from 1700 to 2008, in order"):
            data.between(*span)


# The measure ----------------------------------------------------------------------------------------------------------


def test_the_normalised_error():
    d = np.random.default_rng(0).standard_normal((50, 2, 1))
    assert tasks.nmse(np.full_like(d, d.mean()), d) == pytest.approx(1)
    assert tasks.nmse(d, d) == 0
    with pytest.raises(ValueError, match="expected two arrays of one shape"):
        tasks.nmse(d, d[:, :1])
    with pytest.raises(ValueError, match="not empty"):
        tasks.nmse([], [])
    for still in ([2.0, 2.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="targets: their variance is"):
            tasks.nmse([1.0, 2.0], still)
