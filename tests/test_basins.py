"""Basins of attraction, and how ends depend on starts: against signs, powers of matrices, and loops of NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.analysis import along, as_map, basins, fixed_points, profile, sensitivity


def attractor(w):
    """The x > 0 with tanh(w x) = x."""
    x = 1.0
    for _ in range(10_000):
        x = math.tanh(w * x)
    return x


def cell_of(W, b, inputs=1):
    cell = nn.RNNCell(inputs, len(W), rng=0, dtype=np.float64)
    cell.weight_hh.data, cell.bias_hh.data = np.array(W), np.array(b)
    cell.bias_ih.data = np.zeros(len(W))
    return cell


# Basins ---------------------------------------------------------------------------------------------------------------


def test_two_units_that_do_not_know_each_other():
    """The quadrants; and what lies on an axis stays on it, where a small error grows: that is no attractor."""
    found = basins(lambda x: tg.tanh(2 * x), (-2, 2), (-1, 1), resolution=41)
    x, y = np.meshgrid(found.xs, found.ys)
    assert found.labels.shape == x.shape and len(found.attractors) == 4
    np.testing.assert_array_equal(found.labels == -1, (abs(x) < 1e-12) | (abs(y) < 1e-12))
    for i, points in enumerate(found.attractors):
        np.testing.assert_allclose(abs(points), [[attractor(2)] * 2], rtol=1e-14)
        np.testing.assert_array_equal(found.labels == i, (x * points[0, 0] > 1e-12) & (y * points[0, 1] > 1e-12))
        np.testing.assert_allclose(found.places[i], points, rtol=1e-12)
    np.testing.assert_array_equal(found.steps == -1, found.labels == -1)


def test_a_cycle_is_one_attractor():
    found = basins(lambda x: -tg.tanh(2 * x), (-2, 2), resolution=20)
    assert set(found.labels) == {0} and found.labels.shape == (20,)
    (points,) = found.attractors
    np.testing.assert_allclose(sorted(points.ravel()), [-attractor(2), attractor(2)], rtol=1e-14)
    assert "cycle of 2" in repr(found)
    longer = basins(lambda x: 3.5 * x * (1 - x), (0.05, 0.95), resolution=10)
    np.testing.assert_allclose(np.sort(longer.attractors[0][:, 0]), [0.38282, 0.50088, 0.82694, 0.87500], atol=5e-6)
    assert set(basins(lambda x: 3.5 * x * (1 - x), (0.05, 0.95), resolution=10, period=3).labels) == {-1}


def test_a_point_that_is_reached_from_both_sides_in_turn_is_a_point():
    found = basins(lambda x: -0.975 * x, (-1, 1), resolution=50)
    assert set(found.labels) == {0} and "fixed point" in repr(found)
    (points,) = found.attractors
    np.testing.assert_allclose(points, [[0.0]], atol=1e-12)


def test_newtons_method_that_leads_elsewhere_is_not_followed():
    """Where the state creeps past a fold that is almost there, the nearest fixed point is far away: it stays."""
    found = basins(lambda x: x - 1e-9 * tg.sign(x) * (abs(x) - 0.5), (0.1, 0.2), resolution=3, steps=3)
    assert all(0.09 < points[0, 0] < 0.21 for points in found.attractors)


def test_what_has_no_bounds():
    found = basins(lambda x: x * x, (-2, 2), resolution=41)
    expected = np.where(abs(found.xs) < 1 - 1e-9, 0, np.where(abs(found.xs) > 1 + 1e-9, -2, -1))
    np.testing.assert_array_equal(found.labels, expected)  # 1 is fixed, and a source
    assert "without bounds" in repr(found)
    assert "no attractor found" in repr(basins(lambda x: x + 1, (0, 1)))


def test_steps_to_the_attractor():
    """x/2 is within 0.001 after ⌈log2(|x| / 0.001)⌉ steps."""
    found = basins(lambda x: x / 2, (-1, 1.1), (-1, 1), resolution=10)
    far = np.hypot(*np.meshgrid(found.xs, found.ys))
    np.testing.assert_array_equal(found.steps, np.maximum(np.ceil(np.log2(far / 0.001)), 0))


def test_a_cell_is_iterated_with_its_input():
    W, b, x = [[2.0, 0.4], [0.5, 1.6]], [0.1, -0.2], np.array([0.7])
    cell = cell_of(W, b)
    bias = np.array(b) + 0.7 * cell.weight_ih.numpy()[:, 0]
    found = basins(cell, (-1, 1), (-1, 1), x=x, resolution=15)
    same = basins(lambda s: tg.tanh(s @ np.array(W).T + bias), (-1, 1), (-1, 1), resolution=15)
    np.testing.assert_array_equal(found.labels, same.labels)
    np.testing.assert_array_equal(found.steps, same.steps)
    assert len(found.attractors) == len(same.attractors) >= 1
    grid = np.stack(np.meshgrid(found.xs, found.ys), axis=-1)
    for _ in range(500):
        grid = np.tanh(grid @ np.array(W).T + bias)
    ends = np.array(found.attractors)[found.labels][:, :, 0]
    np.testing.assert_allclose(ends, grid, atol=1e-9)
    one = basins(cell_of([[2.0]], [0.0]), (-1, 1), resolution=10)  # a cell of one unit, on a line
    np.testing.assert_array_equal(one.labels, one.xs > 0)


def test_a_plane_through_a_larger_state():
    W = np.diag([2.0, 3.0, 0.5])
    plane, origin = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), np.array([0.23, 0.13, 0.9])
    found = basins(cell_of(W, np.zeros(3)), (-1, 1), (-1, 1), origin=origin, plane=plane, resolution=21)
    a, b = np.meshgrid(found.xs, found.ys)  # along the second unit, and along the first
    for i, points in enumerate(found.attractors):
        np.testing.assert_allclose(points[0, 2], 0, atol=1e-14)
        where = (np.sign(a + 0.13) == np.sign(points[0, 1])) & (np.sign(b + 0.23) == np.sign(points[0, 0]))
        np.testing.assert_array_equal(found.labels == i, where)
        np.testing.assert_allclose(found.places[i][0], [points[0, 1] - 0.13, points[0, 0] - 0.23], atol=1e-12)
    assert len(found.attractors) == 4
    lstm = nn.LSTMCell(1, 2, rng=0)
    assert basins(lstm, (-1, 1), (-1, 1), resolution=5).attractors[0].shape == (1, 4)


def test_a_continuum_of_attractors_is_said():
    with pytest.raises(ValueError, match="more than 200 attractors"):
        basins(lambda x: 1.0 * x, (-9, 9), (-9, 9), resolution=15, steps=1)
    assert len(basins(lambda x: 1.0 * x, (0, 1), resolution=5, steps=1).attractors) == 5


# Sensitivity ----------------------------------------------------------------------------------------------------------


def test_of_a_linear_map_it_is_the_norm_of_a_power():
    A = np.array([[0.9, 10.0], [0.0, 0.9]])  # its radius is 0.9, and yet a power of it is large
    found = sensitivity(lambda x: x @ A.T, (-1, 1), (-1, 1), steps=9, resolution=3)
    power = np.linalg.matrix_power(A, 9)
    np.testing.assert_allclose(found.slopes, np.full((3, 3), np.linalg.norm(power, 2)), rtol=1e-12)
    grid = np.stack(np.meshgrid(found.xs, found.ys), axis=-1)
    np.testing.assert_allclose(found.ends, grid @ power.T, atol=1e-12)
    B = np.random.default_rng(0).standard_normal((5, 5)) / 2
    plane = np.random.default_rng(1).standard_normal((2, 5))
    cut = sensitivity(lambda x: x @ B.T, (-1, 1), (-1, 1), steps=4, resolution=2, origin=np.ones(5), plane=plane)
    np.testing.assert_allclose(cut.slopes, np.linalg.norm(np.linalg.matrix_power(B, 4) @ plane.T, 2), rtol=1e-10)
    line = sensitivity(lambda x: x @ B.T, (-1, 1), steps=4, resolution=3, origin=np.ones(5), plane=plane[:1])
    np.testing.assert_allclose(line.slopes, np.linalg.norm(np.linalg.matrix_power(B, 4) @ plane[0]), rtol=1e-10)
    starts = np.ones(5) + line.xs[:, None] * plane[0]
    np.testing.assert_allclose(line.ends, starts @ np.linalg.matrix_power(B, 4).T, atol=1e-12)


def test_it_vanishes_inside_and_explodes_on_the_border():
    found = sensitivity(lambda x: tg.tanh(2 * x), (-1, 1), steps=30, resolution=101)
    x, slope = found.xs, np.ones(101)
    for _ in range(30):
        x = np.tanh(2 * x)
        slope = slope * 2 * (1 - x * x)
    np.testing.assert_allclose(found.ends, x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.slopes, abs(slope), rtol=1e-9)
    assert found.slopes[50] == pytest.approx(2.0**30) and found.slopes[0] < 1e-20
    assert found.ends.shape == found.slopes.shape == (101,)


def test_of_a_cell_it_is_the_product_of_its_jacobians():
    W = np.array([[2.0, 0.4], [0.5, 1.6]])
    found = sensitivity(cell_of(W, [0.1, -0.2]), (-1, 1), (-1, 1), steps=6, resolution=4)
    for j, i in np.ndindex(4, 4):
        h, J = np.array([found.xs[i], found.ys[j]]), np.eye(2)
        for _ in range(6):
            h = np.tanh(W @ h + [0.1, -0.2])
            J = np.diag(1 - h * h) @ W @ J
        assert found.slopes[j, i] == pytest.approx(np.linalg.norm(J, 2), rel=1e-9)


def test_what_is_not_finite_is_infinite():
    found = sensitivity(lambda x: x * x, (-2, 2), steps=30, resolution=5)
    assert np.isinf(found.slopes[[0, -1]]).all() and found.slopes[2] == 0


# What is refused ------------------------------------------------------------------------------------------------------


W = np.array([[1.0, 0.5], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: basins(3, (0, 1)), "f: expected a function of rows, or a Cell"),
        (lambda: basins(np.tanh, (1, 0)), "xlim: "),
        (lambda: basins(np.tanh, (0, 1), (0, np.inf)), "ylim: "),
        (lambda: basins(np.tanh, (0, 1), resolution=1), "resolution: "),
        (lambda: basins(np.tanh, (0, 1), steps=0), "steps: "),
        (lambda: basins(np.tanh, (0, 1), period=0), "period: "),
        (lambda: basins(np.tanh, (0, 1), tolerance=0), "tolerance: "),
        (lambda: basins(np.tanh, (0, 1), tolerance="a"), "tolerance: expected a number above 0, got 'a'"),
        (lambda: basins(nn.RNN(1, 2, rng=0), (0, 1)), r"RNN runs whole .*its cell is model.layers\[0\]\['forward'\]"),
        (lambda: basins(nn.Zoneout(cell_of(W, [0.0, 0.0]), 0.5, rng=0), (0, 1)), r"draws random numbers.*\.eval\(\)"),
        (lambda: basins(np.tanh, (0, 1), x=np.ones(1)), "x: an input is for a cell"),
        (lambda: basins(np.tanh, (0, 1), (0, 1), origin=np.ones(1)), "ylim: .*one number: leave it out"),
        (lambda: basins(np.tanh, (0, 1), (0, 1), plane=np.ones((2, 2))), "plane: .*independent"),
        (lambda: basins(np.tanh, (0, 1), (0, 1), plane=np.eye(3)[:2]), "plane: expected 2 directions of 2 numbers"),
        (lambda: basins(cell_of(W, [0.0, 0.0]), (0, 1), (0, 1), origin=np.ones(3)), "origin: expected 2 numbers"),
        (lambda: basins(cell_of(W, [0.0, 0.0]), (0, 1), (0, 1), x=np.ones(2)), "x: expected 1 numbers"),
        (lambda: basins(lambda x: tg.tanh(W @ x), (0, 1), (0, 1)), "matmul"),
        (lambda: basins(lambda x: x / x.sum(), (0.1, 1)), "f: expected a map of each row by itself"),
        (lambda: basins(lambda x: x[:, :1], (0, 1), (0, 1)), "f: expected it to map"),
        (lambda: sensitivity(np.tanh, (0, 1), steps=0), "steps: "),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_columns_are_not_rows():
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the note is what matters)
        basins(lambda x: tg.tanh(W @ x), (0, 1), (0, 1))
    assert "write x @ W.T where W @ x is meant" in caught.value.__notes__[-1]


def test_a_long_run_is_shown_as_far_as_it_is(monkeypatch):
    from tinygrad_rnn.analysis import slopes

    seen = []

    def counted(items, progress, description):
        seen.append((len(items), progress, description))
        return iter(items)

    monkeypatch.setattr(slopes, "counted", counted)
    for progress in (True, False):
        sensitivity(lambda x: x / 2, (-1, 1), steps=7, resolution=3, progress=progress)
    assert set(seen) == {(7, True, "sensitivity"), (7, False, "sensitivity")}


def test_figures():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    f, line = (lambda x: tg.tanh(2 * x)), {"resolution": 9, "steps": 30}
    plane = basins(f, (-1, 1), (-1, 1), **line)
    results = [plane, basins(f, (-1, 1), **line), basins(lambda x: x + 1, (0, 1), **line), sensitivity(f, (0, 1))]
    results.append(sensitivity(f, (-1, 1), (-1, 1), resolution=9))
    for result in results:
        _, ax = plt.subplots()
        assert result.plot(ax) is ax
        ax.figure.canvas.draw()
        assert result.plot() is not ax and repr(result)
        plt.close("all")
    assert plane.plot(steps=True).get_xlabel()
    x, ends = sensitivity(f, (-1, 1), resolution=5, steps=1).plot_ends().lines[0].get_data()
    np.testing.assert_allclose(ends, np.tanh(2 * x))
    with pytest.raises(ValueError, match="starts in a plane"):
        results[-1].plot_ends()
    plt.close("all")


def test_on_another_device(xp):
    """Results are on the host, wherever the weights are."""
    here, there = (nn.RNNCell(1, 2, rng=4, dtype=np.float64) for _ in range(2))
    if xp is not np:
        there.to("cuda")
    one, other = (basins(cell, (-1, 1), (-1, 1), resolution=4, steps=60) for cell in (here, there))
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.attractors, other.attractors, atol=1e-12)
    slopes = [sensitivity(cell, (-1, 1), (-1, 1), resolution=3, steps=4).slopes for cell in (here, there)]
    np.testing.assert_allclose(*slopes, rtol=1e-9)
    points = [fixed_points(as_map(cell, np.array([0.5])), np.zeros((1, 2))).points for cell in (here, there)]
    np.testing.assert_allclose(*points, rtol=1e-12)
    xs = np.random.default_rng(0).standard_normal((5, 3, 1))
    losses = [
        profile(along(cell, lambda cell, xs: (tg.scan(cell, xs)[0] ** 2).mean(), x, ("bias_hh", 1)), [0.0, 1.0])
        for cell, x in ((here, xs), (there, xp.asarray(xs)))
    ]
    np.testing.assert_allclose(losses[0].slopes, losses[1].slopes, rtol=1e-9)
