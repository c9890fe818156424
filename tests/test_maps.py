"""Iterated maps: against closed forms, and plain NumPy."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn, trees
from tinygrad_rnn.analysis import (
    Bifurcation,
    as_map,
    basins,
    bifurcation,
    branches,
    cobweb,
    fixed_points,
    folds,
    iterate,
    phase_line,
    phase_portrait,
    sensitivity,
)


def logistic(r):
    return lambda x: r * x * (1 - x)


def henon(x, a=1.4):
    return tg.stack([1 - a * x[..., 0] ** 2 + x[..., 1], 0.3 * x[..., 0]], axis=-1)


def root(g, a, b):
    """A zero of g, by halving: plain Python."""
    for _ in range(200):
        middle = (a + b) / 2
        a, b = (middle, b) if (g(middle) > 0) == (g(a) > 0) else (a, middle)
    return a


# Orbits ---------------------------------------------------------------------------------------------------------------


def test_an_orbit_is_a_loop():
    x, expected = 0.3, [0.3]
    for _ in range(50):
        x = 3.9 * x * (1 - x)
        expected.append(x)
    np.testing.assert_allclose(iterate(logistic(3.9), 0.3, 50), expected, rtol=1e-3)  # chaos doubles every rounding
    np.testing.assert_allclose(iterate(logistic(3.9), 0.3, 8), expected[:9], rtol=1e-13)
    W = np.array([[0.0, -1.0], [1.0, 0.0]])
    np.testing.assert_array_equal(
        iterate(lambda x: W @ x, np.array([1.0, 2.0]), 4)[[0, 1, 4]], [[1, 2], [-2, 1], [1, 2]]
    )
    assert iterate(logistic(2), np.full((3, 2), 0.1), 5).shape == (6, 3, 2)
    np.testing.assert_array_equal(iterate(logistic(2), tg.tensor(0.1), 0), [0.1])


def test_what_grows_becomes_infinite_in_silence():
    orbit = iterate(lambda x: x * x, 2.0, 20)
    assert np.isinf(orbit[-1]) and orbit[3] == 256
    with pytest.raises(OverflowError, match=r"after 10 steps the orbit is infinite: take n=9 at most"):
        cobweb(lambda x: x * x, 2.0, 20)


def test_nothing_is_recorded():
    a = tg.tensor(0.5, requires_grad=True)
    assert isinstance(iterate(lambda x: a * x, 1.0, 3), np.ndarray)
    found = fixed_points(lambda x: a * x, np.array([1.0]))
    assert abs(found.points[0]) < 1e-15 and found.multipliers[0] == 0.5
    assert a.grad is None


def test_a_cobweb_goes_from_the_diagonal_to_the_graph_and_back():
    web = cobweb(lambda x: x * x + 0.15, 0.8, 6, (0, 1))
    assert web.path.shape == (13, 2) and (web.xs[0], web.xs[-1]) == (0, 1)
    on_diagonal, on_graph = web.path[::2], web.path[1::2]
    np.testing.assert_array_equal(on_diagonal[:, 0], on_diagonal[:, 1])
    np.testing.assert_allclose(on_graph[:, 1], on_graph[:, 0] ** 2 + 0.15, rtol=1e-15)
    np.testing.assert_allclose(web.ys, web.xs**2 + 0.15, rtol=1e-15)
    wide = cobweb(lambda x: 0.5 * x, 0.0, 2)  # it stays where it is: the graph has a width all the same
    assert wide.xs[0] < 0 < wide.xs[-1]


# Fixed points ---------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(r=st.floats(1.05, 6))
def test_the_logistic_map_has_two_fixed_points(r):
    """0 and 1 - 1/r, with f' of r and 2 - r; what counts is the modulus."""
    found = fixed_points(logistic(r), interval=(-0.3, 1.3))
    np.testing.assert_allclose(found.points, [0, 1 - 1 / r], atol=1e-12)
    np.testing.assert_allclose(found.multipliers, [r, 2 - r], atol=1e-10)
    if abs(abs(2 - r) - 1) > 1e-5:
        assert found.kinds == ("source", "sink" if abs(2 - r) < 1 else "source")


@settings(max_examples=15)
@given(r=st.floats(3.05, 5))
def test_its_cycle_of_two(r):
    """By the quadratic formula; its multiplier is 4 + 2r - r²."""
    found = fixed_points(logistic(r), interval=(-0.2, 1.2), period=2)
    cycle, once = found.where(period=2), found.where(period=1)
    half = math.sqrt((r - 3) * (r + 1))
    np.testing.assert_allclose(cycle.points, [(r + 1 - half) / (2 * r), (r + 1 + half) / (2 * r)], rtol=1e-10)
    np.testing.assert_allclose(cycle.multipliers, [4 + 2 * r - r * r] * 2, atol=1e-9)
    np.testing.assert_allclose(once.points, [0, 1 - 1 / r], atol=1e-12)
    np.testing.assert_allclose(once.multipliers, [r, 2 - r], atol=1e-10)
    assert len(found) == 4 and (found.residual < 1e-14).all()


def test_the_lectures_numbers():
    f = logistic(3.5)
    found = fixed_points(f, interval=(-0.5, 1.5), period=4)
    cycle = found.where(kind="sink")
    np.testing.assert_allclose(cycle.points, [0.38282, 0.50088, 0.82694, 0.87500], atol=5e-6)
    np.testing.assert_allclose(cycle.multipliers, [-0.0305] * 4, atol=5e-5)
    assert set(cycle.periods) == {4} and len(found) == 8
    np.testing.assert_allclose(found.where(period=1).points, [0, 5 / 7], atol=1e-14)
    np.testing.assert_allclose(found.where(period=1).multipliers, [3.5, -1.5], atol=1e-13)
    assert found.where(period=1).kinds == ("source", "source")  # though -1.5 < 1
    found = fixed_points(lambda x: x**2 + 0.15, interval=(-2, 2))
    np.testing.assert_allclose(found.points, [0.183772, 0.816228], atol=5e-7)
    np.testing.assert_allclose(found.multipliers, [0.36754, 1.63246], atol=5e-6)
    assert found.kinds == ("sink", "source")


def test_superstable_cycles():
    assert fixed_points(logistic(2.0), interval=(0.2, 1)).superstable.tolist() == [True]
    found = fixed_points(logistic(1 + math.sqrt(5)), interval=(0.1, 1), period=2)
    assert found.superstable.tolist() == [p == 2 for p in found.periods]
    np.testing.assert_allclose(found.where(period=2).points, [0.5, (1 + math.sqrt(5)) / 4], atol=1e-12)
    assert "superstable" in repr(found)


def test_where_two_meet_it_is_one_and_neutral():
    """x² + 1/4 touches the diagonal at 1/2: no sign changes there."""
    for offset in (0.0, 0.123):
        found = fixed_points(lambda x: x * x + 0.25, interval=(-2 + offset, 2))
        assert len(found) == 1 and found.kinds == ("neutral",)
        assert found.points[0] == pytest.approx(0.5, abs=1e-6)


def test_near_to_a_fixed_point_is_none():
    """x² + .25 + ε comes as close as ε to the diagonal, at .5; and where it touches, all starts lead to one point."""
    for gap, found in (1e-12, 0), (0.0, 1):
        assert len(fixed_points(lambda x: x * x + 0.25 + gap, np.linspace(0.3, 0.7, 9))) == found  # noqa: B023


def test_none_is_no_error():
    found = fixed_points(lambda x: x * x + 0.3, interval=(-5, 5))
    assert len(found) == 0 and found.points.shape == (0,) and "none found" in repr(found)
    assert len(found.where("sink")) == 0
    none = fixed_points(lambda x: x + 1, np.zeros((3, 2)))
    assert none.points.shape == none.multipliers.shape == (0, 2)
    jump = fixed_points(lambda x: x + tg.where(x.data < 0.3, 1.0, -1.0) * (1 + x * x), interval=(-1, 1))
    assert len(jump) == 0  # the sign changes there, and nothing is fixed
    assert len(fixed_points(lambda x: tg.log(x - 3), interval=(-5, 2))) == 0  # NaN everywhere


@given(seed=st.integers(0, 1000), d=st.integers(1, 5))
def test_of_an_affine_map(seed, d):
    rng = np.random.default_rng(seed)
    A, b = rng.standard_normal((d, d)), rng.standard_normal(d)
    found = fixed_points(lambda x: A @ x + b, rng.standard_normal((3, d)))
    np.testing.assert_allclose(found.points, [np.linalg.solve(np.eye(d) - A, b)], rtol=1e-7, atol=1e-9)
    expected = np.linalg.eigvals(A)
    order = [np.argmin(abs(expected - m)) for m in found.multipliers[0]]
    assert sorted(order) == list(range(d))
    np.testing.assert_allclose(found.multipliers[0], expected[order], rtol=1e-9)
    inside = sum(abs(expected) < 1)
    assert found.kinds == ("sink" if inside == d else "source" if inside == 0 else "saddle",)


def test_the_pitchfork_of_a_unit():
    assert fixed_points(lambda x: tg.tanh(0.5 * x), interval=(-2, 2)).kinds == ("sink",)
    found = fixed_points(lambda x: tg.tanh(2 * x), interval=(-2, 2))
    x = root(lambda x: math.tanh(2 * x) - x, 0.5, 1)
    np.testing.assert_allclose(found.points, [-x, 0, x], atol=1e-14)
    np.testing.assert_allclose(found.multipliers, [2 * (1 - x * x), 2, 2 * (1 - x * x)], atol=1e-13)
    assert found.kinds == ("sink", "source", "sink")


def test_henon():
    """Fixed points by the quadratic formula; the determinant of each Jacobian is -b."""
    starts = np.array([*itertools.product(np.linspace(-2, 2, 9), repeat=2)])
    found = fixed_points(henon, starts, period=2)
    once, twice = found.where(period=1), found.where(period=2)
    x = (-0.7 + np.array([-1, 1]) * math.sqrt(0.49 + 4 * 1.4)) / 2.8
    np.testing.assert_allclose(once.points, np.stack([x, 0.3 * x], axis=1), atol=1e-13)
    np.testing.assert_allclose(once.multipliers.prod(axis=1), [-0.3, -0.3], atol=1e-12)
    assert once.kinds == ("saddle", "saddle")
    s = 0.7 / 1.4  # the x of the cycle: their sum is (1 - b)/a, their product ((1 - b)² - a)/a²
    x = np.roots([1, -s, (0.49 - 1.4) / 1.96])
    np.testing.assert_allclose(np.sort(twice.points[:, 0]), np.sort(x), atol=1e-12)
    np.testing.assert_allclose(twice.multipliers.prod(axis=1), [0.09, 0.09], atol=1e-12)
    np.testing.assert_allclose(twice.multipliers[0], twice.multipliers[1], rtol=1e-10)


def test_single_precision_has_fewer_digits_and_is_found():
    f = lambda x: tg.astype(tg.tanh(2 * x), np.float32)  # noqa: E731
    found = fixed_points(f, interval=(0.5, 2))
    assert found.points == pytest.approx([root(lambda x: math.tanh(2 * x) - x, 0.5, 1)], abs=1e-6)


def test_phase_line_and_portrait():
    line = phase_line(lambda x: x * x + 0.15, (-0.5, 1.2))
    np.testing.assert_allclose(line.moves, line.xs**2 + 0.15 - line.xs, atol=1e-15)
    assert line.fixed.kinds == ("sink", "source")
    W = np.array([[2.0, 0.3], [0.1, 1.5]])
    portrait = phase_portrait(lambda x: tg.tanh(W @ x), (-1.5, 1), (-1.5, 1.5), resolution=13)
    grid = np.stack(np.meshgrid(portrait.xs, portrait.ys), axis=-1)
    np.testing.assert_allclose(portrait.moves, np.tanh(grid @ W.T) - grid, atol=1e-15)
    xy = portrait.fixed.points
    np.testing.assert_allclose(np.tanh(xy @ W.T), xy, atol=1e-13)
    assert len(xy) == 9 and sorted(portrait.fixed.kinds) == ["saddle"] * 4 + ["sink"] * 4 + ["source"]
    half = phase_portrait(lambda x: tg.tanh(W @ x), (-1.5, -0.5), (-1.5, 1.5))
    assert (half.fixed.points[:, 0] <= -0.5).all() and len(half.fixed) == 3


# Cells ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_a_cell_is_a_map_of_its_state(kind):
    cell, x = kind(2, 3, rng=0, dtype=np.float64), np.array([0.3, -1.0])
    f, parts = as_map(cell, x), 2 if kind is nn.LSTMCell else 1
    v = np.random.default_rng(1).standard_normal((5, 3 * parts))
    state = (v[:, :3], v[:, 3:]) if parts == 2 else v
    _, after = cell(np.repeat(x[None], 5, axis=0), tuple(map(tg.tensor, state)) if parts == 2 else tg.tensor(v))
    after = np.concatenate([part.numpy() for part in (after if parts == 2 else [after])], axis=1)
    np.testing.assert_allclose(f(v).numpy(), after, rtol=1e-14)
    np.testing.assert_allclose(f(v[2]).numpy(), after[2], rtol=1e-13)
    assert f.size == 3 * parts


class OwnCell(nn.Cell):
    """A leaky unit made of modules, which take their own dtype only, and a constant; its state begins at a weight."""

    def __init__(self):
        self.input_size = self.state_size = 2
        self.W, self.U = nn.Linear(2, 2, rng=0), nn.Linear(2, 2, bias=False, rng=1)
        self.leak, self.start_at = tg.tensor(np.float32([0.3, 0.6])), nn.Parameter(np.float32([0.1, 0.2]))

    def initial_state(self, x):
        return super().initial_state(x) + self.start_at

    def step(self, x, h):
        h = (1 - self.leak) * h + self.leak * tg.tanh(self.W(x) + self.U(h))
        return h, h


def inner():
    return nn.GRUCell(2, 2, rng=0)


IN_SINGLE = {
    "RNNCell": lambda: nn.RNNCell(2, 2, rng=0),
    "IRNNCell": lambda: nn.IRNNCell(2, 2, rng=0),
    "GRUCell": inner,
    "LSTMCell": lambda: nn.LSTMCell(2, 2, rng=0),
    "LSTM1997Cell": lambda: nn.LSTM1997Cell(2, 2, rng=0),
    "LSTMVariantCell": lambda: nn.LSTMVariantCell(2, 2, rng=0),
    "MinimalGatedCell": lambda: nn.MinimalGatedCell(2, 2, rng=0),
    "LeakyCell": lambda: nn.LeakyCell(2, 2, 0.5, rng=0),
    "Reservoir": lambda: nn.Reservoir(2, 5, rng=0, dtype=np.float32),
    "Reservoir, sparse": lambda: nn.Reservoir(2, 5, density=0.4, sparse=True, rng=0, dtype=np.float32),
    "GroupedReservoir": lambda: nn.GroupedReservoir([nn.Reservoir(2, 3, rng=i, dtype=np.float32) for i in (0, 1)]),
    "Highway": lambda: nn.Highway(inner(), rng=1),
    "LayerNormalized": lambda: nn.LayerNormalized(inner()),
    "Residual": lambda: nn.Residual(inner()),
    "Dense": lambda: nn.Dense(inner()),
    "LearnedState": lambda: nn.LearnedState(inner()),
    "Zoneout": lambda: nn.Zoneout(inner(), 0.5, rng=1).eval(),
    "VariationalDropout": lambda: nn.VariationalDropout(inner(), 0.5, rng=1).eval(),
    "RecurrentDropout": lambda: nn.RecurrentDropout(inner(), 0.5, rng=1).eval(),
    "Highway, LayerNormalized": lambda: nn.Highway(nn.LayerNormalized(inner()), rng=1),
    "OwnCell": OwnCell,
}


@pytest.mark.parametrize("name", IN_SINGLE)
def test_a_map_is_in_double_precision_whatever_the_weights_have(name):
    """As the same weights give it, written as float64; and the cell is as it was."""
    cell, x = IN_SINGLE[name](), np.array([0.3, -1.0])
    before, double = cell.state_dict(), copy.deepcopy(cell).astype(np.float64)
    nodes = [p.node for p in cell.parameters()]
    f = as_map(cell, x)
    parts, rebuild = trees.flatten(double.initial_state(x[None]))
    v = np.random.default_rng(1).standard_normal((1, f.size))
    cuts = np.cumsum([part.shape[1] for part in parts])[:-1]
    with tg.no_grad():
        _, after = double.step(tg.tensor(x[None]), rebuild([tg.tensor(p) for p in np.split(v, cuts, axis=1)]))
    expected = np.concatenate([part.numpy() for part in trees.flatten(after)[0]], axis=1)
    found = f(v)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13, atol=1e-15)
    for key, array in cell.state_dict().items():
        assert array.dtype == before[key].dtype
        np.testing.assert_array_equal(array, before[key])
    assert all(p.node is node for p, node in zip(cell.parameters(), nodes))


def test_what_is_made_of_maps_takes_cells_in_single_precision():
    cell = OwnCell()
    (point,) = fixed_points(cell, [[0.0, 0.0]]).points
    U, b = (p.numpy().astype(float) for p in (cell.U.weight, cell.W.bias))
    np.testing.assert_allclose(np.tanh(U @ point + b), point, atol=1e-14)
    (attractor,) = basins(cell, (-1, 1), (-1, 1), resolution=3).attractors
    np.testing.assert_allclose(attractor[0], point, atol=1e-14)
    np.testing.assert_allclose(phase_portrait(cell, (-1, 1), (-1, 1), 4).fixed.points, [point], atol=1e-14)
    assert sensitivity(cell, (-1, 1), (-1, 1), steps=100, resolution=3).slopes.max() < 1e-3


def test_a_map_follows_the_weights_and_has_a_gradient_by_them():
    cell, h = OwnCell(), np.array([[0.2, -0.4]])
    f = as_map(cell)
    f(h).sum().backward()
    slope = cell.leak.numpy() * (1 - np.tanh(h @ cell.U.weight.numpy().T + cell.W.bias.numpy()) ** 2)
    np.testing.assert_allclose(cell.U.weight.grad.numpy(), slope.T @ h, rtol=1e-6)
    cell.U.weight.data, cell.W.bias.data = np.zeros((2, 2), np.float32), np.zeros(2, np.float32)
    np.testing.assert_allclose(f(h).numpy(), (1 - cell.leak.numpy().astype(float)) * h, rtol=1e-14)


def test_a_step_that_fails_leaves_the_weights_as_they_are():
    cell = OwnCell()
    f = as_map(cell)
    cell.step = lambda x, h: 1 / 0
    with pytest.raises(ZeroDivisionError):
        f(np.zeros((1, 2)))
    assert {x.dtype for x in cell.state_dict().values()} == {np.dtype("float32")}


def test_fixed_points_of_a_cell():
    cell = nn.RNNCell(1, 3, rng=2)
    W, b = cell.weight_hh.numpy().astype(float), cell.bias_ih.numpy().astype(float) + cell.bias_hh.numpy()
    b = b + 0.5 * cell.weight_ih.numpy()[:, 0]
    found = fixed_points(as_map(cell, np.array([0.5])), np.zeros((1, 3)))
    (h,) = found.points
    np.testing.assert_allclose(np.tanh(W @ h + b), h, atol=1e-13)
    expected = np.linalg.eigvals(np.diag(1 - h * h) @ W)
    np.testing.assert_allclose(sorted(abs(found.multipliers[0])), sorted(abs(expected)), rtol=1e-10)


def test_a_cell_is_taken_for_the_map_that_it_is():
    """By whatever takes a map of points; and one whose state is a number by what takes a map of numbers."""
    cell = nn.RNNCell(3, 2, rng=0, dtype=np.float64)
    cell.weight_hh.data = np.array([[2.0, 0.0], [0.0, 0.5]])
    found, expected = fixed_points(cell, [[1, 0], [0, 0]]), fixed_points(as_map(cell), [[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(found.points, expected.points)
    np.testing.assert_array_equal(iterate(cell, [0.1, 0.2], 3), iterate(as_map(cell), [0.1, 0.2], 3))
    assert len(phase_portrait(cell, (-1.5, 1.5), (-1.5, 1.5), 9).fixed)
    unit = nn.RNNCell(1, 1, bias=False, rng=0, dtype=np.float64)
    unit.weight_hh.data = np.array([[2.0]])
    number = lambda x: tg.tanh(2 * x)  # noqa: E731
    np.testing.assert_allclose(
        fixed_points(unit, interval=(-2, 2)).points, fixed_points(number, interval=(-2, 2)).points
    )
    np.testing.assert_allclose(phase_line(unit, (-2, 2)).moves, phase_line(number, (-2, 2)).moves, atol=1e-15)
    np.testing.assert_allclose(cobweb(unit, 0.1, 5).orbit, cobweb(number, 0.1, 5).orbit)


def test_a_portrait_of_a_plane_in_more_numbers():
    """Of a linear cell: moves are the part of (W - I) s + b in the plane, and its one fixed point is known."""
    rng = np.random.default_rng(3)
    cell = nn.RNNCell(2, 5, nonlinearity="linear", rng=0)
    W, b = cell.weight_hh.numpy().astype(float), cell.bias_ih.numpy().astype(float) + cell.bias_hh.numpy()
    x, origin, plane = np.array([0.3, -1.0]), rng.standard_normal(5), np.linalg.qr(rng.standard_normal((5, 2)))[0].T
    b = b + cell.weight_ih.numpy().astype(float) @ x
    found = phase_portrait(cell, (-9, 9), (-8, 8), 7, x=x, origin=origin, plane=plane)
    state = origin + found.xs[2] * plane[0] + found.ys[5] * plane[1]
    np.testing.assert_allclose(found.moves[5, 2], plane @ (W @ state + b - state), rtol=1e-10)
    (point,) = found.fixed.points
    np.testing.assert_allclose(point, np.linalg.solve(np.eye(5) - W, b), rtol=1e-10)
    np.testing.assert_allclose(found.places, [plane @ (point - origin)], rtol=1e-10)
    wild = lambda s: tg.stack([tg.exp(800 * s[0]), s[1]])  # noqa: E731
    moves = phase_portrait(wild, (-1, 1), (-1, 1), 3).moves
    assert np.isposinf(moves[:, 2, 0]).all() and np.isfinite(moves[:, :2]).all() and (moves[..., 1] == 0).all()
    turned = phase_portrait(wild, (-1, 1), (-1, 1), 3, plane=[[0.0, 1.0], [1.0, 0.0]]).moves
    assert np.isfinite(turned[:2]).all()
    far = phase_portrait(cell, (20, 21), (20, 21), 3, x=x, origin=origin, plane=plane)
    assert len(far.fixed) == 0 == len(far.places)
    assert phase_portrait(nn.GRUCell(2, 24, rng=0), (-1, 1), (-1, 1), 4).moves.shape == (4, 4, 2)
    with pytest.raises(ValueError, match="origin: expected 5 numbers"):
        phase_portrait(cell, (-1, 1), (-1, 1), 3, origin=np.zeros(4))
    with pytest.raises(TypeError, match="x: an input is for a cell"):
        phase_portrait(tg.tanh, (-1, 1), (-1, 1), 3, x=x)
    with pytest.raises(ValueError, match="ylim: expected two numbers"):
        phase_portrait(cell, (-1, 1), None)


def test_what_a_cell_draws_is_not_used_up():
    cell = nn.Zoneout(nn.GRUCell(1, 2, rng=0), 0.5, rng=3)
    before = cell.rng.bit_generator.state
    with pytest.raises(ValueError, match=r"Zoneout: it draws random numbers.*\.eval\(\)"):
        as_map(cell)
    assert cell.rng.bit_generator.state == before and as_map(cell.eval()).size == 2


class Net(nn.Module):
    def __init__(self):
        self.cells = {"a": nn.GRUCell(1, 2, rng=0)}

    def forward(self, xs):
        raise ValueError("xs: expected (time, batch, features)")


def test_a_network_is_no_map():
    with pytest.raises(ValueError, match="time, batch") as caught:
        fixed_points(Net(), [[0.0, 0.0]])
    assert "its cell is model.cells['a']" in caught.value.__notes__[0]


def test_what_is_no_map_of_a_state():
    with pytest.raises(TypeError, match=r"cell: expected a Cell, got .*a function is a map as it is"):
        as_map(np.tanh)
    with pytest.raises(ValueError, match="expected 2 numbers, the features of an input of RNNCell, got 3"):
        as_map(nn.RNNCell(2, 3, rng=0), np.ones(3))
    with pytest.raises(TypeError, match="x: expected floating-point"):
        as_map(nn.RNNCell(2, 3, rng=0), np.ones(2, int))
    with pytest.raises(ValueError, match=r"state: expected \(..., 3\)"):
        as_map(nn.RNNCell(2, 3, rng=0))(np.ones(4))
    with pytest.raises(TypeError, match="holds more than floating-point numbers"):
        as_map(nn.ClockworkCell(1, 4, periods=(1, 2), rng=0))


# Bifurcations ---------------------------------------------------------------------------------------------------------


def test_a_bifurcation_is_many_orbits():
    r, starts = np.linspace(2.5, 3.55, 7), np.array([0.3, 0.6])
    found = bifurcation(logistic_of, r, starts, transient=20, keep=5)
    x, kept = np.broadcast_to(starts[:, None], (2, 7)), []
    for i in range(25):
        x = r * x * (1 - x)
        kept += [x] if i >= 20 else []
    np.testing.assert_allclose(found.values, kept, rtol=1e-12)
    np.testing.assert_allclose(bifurcation(logistic_of, r, starts, 0, 1).values, [r * (s := starts[:, None]) * (1 - s)])


def logistic_of(x, r):
    return r * x * (1 - x)


def test_periods_double():
    """The cycles of 1, 2, 4, 8 steps are stable to r = 3, 3.449, 3.544, 3.564; at 3.83 there is one of 3."""
    found = bifurcation(logistic_of, np.array([0.5, 2.9, 3.2, 3.5, 3.55, 3.83, 4.0]), 0.3, transient=3000)
    assert found.periods().tolist() == [[1, 1, 2, 4, 8, 3, 0]]
    with_escape = bifurcation(logistic_of, np.array([3.0, 5.0]), 0.3)
    assert "unbounded at 1" in repr(with_escape) and not np.isfinite(with_escape.values[-1, 0, 1])


def test_what_was_seen_once_is_no_cycle():
    values = np.array([0.0, 1, 2, 3, 4, 0]).reshape(6, 1, 1)
    assert Bifurcation(np.ones(1), values).periods().item() == 0
    assert Bifurcation(np.ones(1), np.array([0.0, 1, 2, 0, 1, 2]).reshape(6, 1, 1)).periods().item() == 3


def test_states_that_are_vectors():
    a = np.array([0.2, 0.5, 0.8])
    found = bifurcation(lambda x, a: henon(x, a), a, np.array([[0.1, 0.2], [0.0, 0.0]]), transient=300, keep=8)
    assert found.values.shape == (8, 2, 3, 2)
    x, y = np.full(3, 0.1), np.full(3, 0.2)
    for _ in range(308):
        x, y = 1 - a * x * x + y, 0.3 * x
    np.testing.assert_allclose(found.values[-1, 0], np.stack([x, y], axis=1), atol=1e-9)
    assert found.periods().tolist() == [[1, 2, 2]] * 2


@pytest.mark.parametrize("w", [4.5, 5.0, 8.0])
def test_folds_of_a_sigmoid_unit(w):
    """w σ'(x) = 1 where σ is (1 ± √(1 - 4/w)) / 2."""
    s = (1 + np.array([1, -1]) * math.sqrt(1 - 4 / w)) / 2
    x = np.log(s / (1 - s))
    b = x - w * s
    found = folds(lambda x, b: w * tg.sigmoid(x) + b, (-9, 9), np.linspace(-8, 0, 33))
    np.testing.assert_allclose(found, np.stack([b, x], axis=1), atol=1e-9)
    if w == 5:
        np.testing.assert_allclose(found[:, 0], [-2.65561, -2.34439], atol=1e-5)


def test_no_folds_below_the_cusp():
    assert folds(lambda x, b: 3 * tg.sigmoid(x) + b, (-9, 9), np.linspace(-5, 1, 9)).shape == (0, 2)


def test_branches_lie_on_the_curve_and_have_its_slope():
    found = branches(lambda x, b: 6 * tg.sigmoid(x) + b, (-6, 6), np.linspace(-4.5, -1.5, 13))
    assert len(found.curves) == 1
    (curve,) = found.curves
    s = 1 / (1 + np.exp(-curve.points))
    np.testing.assert_allclose(curve.parameters, curve.points - 6 * s, atol=1e-12)
    np.testing.assert_allclose(curve.multipliers, 6 * s * (1 - s), atol=1e-12)
    np.testing.assert_array_equal(curve.stable, 6 * s * (1 - s) < 1)
    assert np.abs(np.diff(curve.points)).max() < 12 / 100 and np.abs(np.diff(curve.parameters)).max() < 3 / 100
    assert (curve.parameters[0], curve.parameters[-1]) == pytest.approx((-4.5, -1.5))


def test_a_pitchfork_has_a_trunk_and_a_fork():
    found = branches(lambda x, w: tg.tanh(w * x), (-1.2, 1.2), np.linspace(0.2, 2.5, 24))
    assert len(found.curves) == 2 and len(found.folds) == 0
    trunk, fork = sorted(found.curves, key=lambda c: np.ptp(c.points))
    assert not trunk.points.any()
    np.testing.assert_array_equal(trunk.stable, trunk.parameters < 1)
    np.testing.assert_allclose(np.tanh(fork.parameters * fork.points), fork.points, atol=1e-12)
    assert fork.points.min() == pytest.approx(-fork.points.max()) and fork.parameters.min() == pytest.approx(
        1, abs=1e-3
    )


def test_a_narrow_bend_is_taken_in_smaller_steps():
    """A circle that is as small as two steps: none turns by more than acos .9."""
    (ring,) = branches(lambda x, p: x + 0.01**2 - p * p - x * x, (-1.003, 1), np.array([-1.0, 0.0, 1.0])).curves
    np.testing.assert_allclose(np.hypot(ring.points, ring.parameters), 0.01, rtol=1e-9)
    turns = np.diff(np.unwrap(np.arctan2(ring.points, ring.parameters)))
    assert abs(turns[:-1]).max() < math.acos(0.9) and abs(turns.sum()) == pytest.approx(2 * np.pi)


def test_branches_that_are_close_are_two():
    """x = p ± .004: two lines, 1/250 of the interval apart."""
    found = branches(lambda x, p: x - 20 * ((x - p) ** 2 - 0.004**2), (-1, 1), np.linspace(-0.5, 0.5, 5))
    low, high = sorted(found.curves, key=lambda c: c.points[0] - c.parameters[0])
    for curve, gap, slope in (low, -0.004, 1.16), (high, 0.004, 0.84):
        np.testing.assert_allclose(curve.points, curve.parameters + gap, atol=1e-12)
        np.testing.assert_allclose(curve.multipliers, slope, atol=1e-9)
    assert len(found.folds) == 0


def test_a_fork_that_is_just_missed():
    """x' = tanh(w x) + ε: one branch turns off sharply and stays stable, the other has a fold; no step leads across."""
    found = branches(lambda x, w: tg.tanh(w * x) + 1e-4, (-1.2, 1.2), np.linspace(0.2, 2.5, 24))
    upper, lower = sorted(found.curves, key=lambda c: -c.points.max())
    assert upper.stable.all() and upper.points.min() > 0 and upper.parameters[-1] == pytest.approx(2.5)
    assert len(found.folds) == 1 and lower.points.max() < 0 and not lower.stable.all() and lower.stable.any()
    ways = np.diff(np.stack([upper.points / 2.4, upper.parameters / 2.3]), axis=1)
    assert np.median(np.linalg.norm(ways, axis=0)) == pytest.approx(1 / 200, rel=0.01)  # as long again after the turn


def test_a_jump_over_zero_is_no_branch():
    """x' has another sign than x on both sides of a pole, and no fixed point between."""
    found = branches(lambda x, p: x + 1 / (x - 0.503 - 0 * p), (-1, 2), np.linspace(0, 1, 3))
    assert found.curves == ()


def test_a_branch_that_closes():
    """x² + p² = 0.3: a circle, of which the half with x > 0 is stable."""
    found = branches(lambda x, p: x + 0.3 - p * p - x * x, (-2, 2), np.linspace(-1, 1, 6))
    (ring,) = found.curves
    np.testing.assert_allclose(np.hypot(ring.points, ring.parameters), math.sqrt(0.3), rtol=1e-10)
    assert (ring.points[0], ring.parameters[0]) == (ring.points[-1], ring.parameters[-1])
    turns = np.unwrap(np.arctan2(ring.points, ring.parameters))
    assert abs(turns[-1] - turns[0]) == pytest.approx(2 * np.pi)  # once around
    np.testing.assert_allclose(found.folds, [[-math.sqrt(0.3), 0], [math.sqrt(0.3), 0]], atol=1e-12)
    np.testing.assert_array_equal(ring.stable, ring.points > 0)


def test_branches_of_nothing():
    found = branches(lambda x, p: x + 1 + p * p, (-1, 1), np.linspace(0, 1, 3))
    assert found.curves == () and repr(found) == "Branches: none found"


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iterate(logistic(2), np.int64(1), 3), r"x0: expected floating-point numbers, .*astype\(float\)"),
        (lambda: iterate(logistic(2), np.nan, 3), "x0: expected finite numbers"),
        (lambda: iterate(logistic(2), 0.1, -1), "n: expected a whole number"),
        (lambda: iterate(3, 0.1, 1), "f: expected a function"),
        (lambda: iterate(lambda x: tg.stack([x, x]), 0.1, 1), r"f: expected it to map float64 \(\).*float64 \(2,\)"),
        (lambda: iterate(lambda x: x > 0, 0.1, 1), "f: expected it to map"),
        (lambda: fixed_points(logistic(2)), "either starts, or interval"),
        (lambda: fixed_points(logistic(2), np.ones(2), interval=(0, 1)), "either starts, or interval"),
        (lambda: fixed_points(logistic(2), interval=(1, 0)), r"interval: .*a < b, got \(1, 0\)"),
        (lambda: fixed_points(logistic(2), interval=(0, np.nan)), "interval: expected two finite"),
        (lambda: fixed_points(logistic(2), interval=3), "interval: expected two numbers"),
        (lambda: fixed_points(logistic(2), np.array([1, 2])), r"starts: expected floating-point .*astype\(float\)"),
        (lambda: fixed_points(logistic(2), 0.5), r"starts: expected .*\(n,\), or \(n, d\)"),
        (lambda: fixed_points(logistic(2), [0.5], period=0), "period: expected a whole number"),
        (lambda: fixed_points(logistic(2), [0.5]).where("attractor"), "kind: expected one of 'sink'"),
        (lambda: fixed_points(lambda x: x.item() ** 2, [0.5]), "returned 0.25, which is no tensor"),
        (lambda: fixed_points(lambda x: x[:1], np.ones((1, 2))), r"f: expected it to map float64 \(2,\)"),
        (lambda: cobweb(logistic(2), np.ones(2), 3), "x0: expected floating-point numbers, one of them"),
        (lambda: cobweb(logistic(2), 0.1, 3, (1, 1)), "interval: "),
        (lambda: phase_line(nn.GRUCell(1, 2, rng=0), (0, 1)), "f: expected a map of numbers; a state of GRUCell has 2"),
        (lambda: fixed_points(nn.GRU(1, 2, rng=0), [[0.0, 0.0]]), r"GRU runs whole .* cell is model.layers\[0\]"),
        (lambda: as_map(nn.GRU(1, 2, rng=0)), r"cell: expected a Cell, got GRU; its cell is model.layers\[0\]"),
        (lambda: bifurcation(logistic_of, np.ones(1), 0.1, 5, 5).plot(component=5), "component: .*below 1.*got 5"),
        (lambda: phase_portrait(henon, (0, 1), (1, 0)), "ylim: "),
        (lambda: phase_portrait(henon, (0, 1), (0, 1), 1), "resolution: "),
        (lambda: bifurcation(logistic_of, np.ones((2, 2)), 0.1), "parameters: expected at least 1 number"),
        (lambda: bifurcation(logistic_of, np.array([1.0, np.nan]), 0.1), "parameters: expected finite"),
        (lambda: bifurcation(logistic_of, np.array([2.0, 1.0]), 0.1), "parameters: .*larger than the one before"),
        (lambda: bifurcation(logistic_of, np.array([1.0, 2.0]), np.array([1])), "x0: expected floating-point"),
        (lambda: bifurcation(logistic_of, np.array([1.0]), 0.1, keep=0), "keep: "),
        (lambda: bifurcation(lambda x, r: x * r.sum(), np.array([1.0, 2.0]), 0.1), "f: expected it to be elementwise"),
        (lambda: bifurcation(lambda x, r: r, np.array([1.0, 2.0]), [0.1, 0.2]), "f: expected it to map"),
        (lambda: folds(logistic_of, (0, 1), [1.0]), "parameters: expected at least 2"),
    ],
)  # fmt: skip
def test_what_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


# Figures --------------------------------------------------------------------------------------------------------------


def test_figures():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = fixed_points(logistic(3.2), interval=(0, 1), period=2)
    results = [
        cobweb(logistic(2.5), 0.1, 9), phase_line(logistic(2.5), (-0.5, 1.2)), phase_portrait(henon, (-1, 1), (-1, 1)),
        bifurcation(logistic_of, np.linspace(1, 5, 9), 0.1), points, points.where("saddle"),
        branches(logistic_of, (-1, 2), np.linspace(0.5, 3.5, 5)),
        branches(lambda x, p: x + 1, (0, 1), np.linspace(0, 1, 3)), phase_line(lambda x: x + 1, (0, 1)),
    ]  # fmt: skip
    for result in results:
        _, ax = plt.subplots()
        assert result.plot(ax) is ax
        ax.figure.canvas.draw()
        new = result.plot()
        assert new is not ax and repr(result)
        plt.close("all")
    assert results[1].plot(graph=False).get_yticks().size == 0
    drawn = {line.get_label(): line for line in points.plot().lines}
    assert drawn["source"].get_markerfacecolor() == "none" != drawn["sink"].get_markerfacecolor()
    with pytest.raises(ValueError, match="points of 3 numbers are not drawn"):
        fixed_points(lambda x: 0.5 * x, np.ones((1, 3))).plot()
    plt.close("all")
