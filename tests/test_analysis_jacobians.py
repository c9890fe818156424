"""Jacobians of steps, bounds of them, and Lyapunov exponents: against finite differences, powers and closed forms."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import analysis, nn, trees
from tinygrad_rnn.analysis import gradient_bound, lyapunov_exponents, step_jacobians, steps

T, B, I, H = 36, 3, 2, 4  # noqa: E741  steps (enough to be compiled), sequences, features, units
TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
SHEAR = np.array([[0.9, 10.0], [0.0, 0.9]])


@pytest.fixture(autouse=True)
def _by_numpy(request, monkeypatch):
    """Long scans are compiled, but not by Numba, which would take longer than all of the tests."""
    if not request.config.getoption("--compiled"):
        monkeypatch.setattr(importlib.import_module("tinygrad_rnn.compile"), "has_numba", lambda: False)


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def linear(W):
    cell = nn.RNNCell(1, len(W), bias=False, nonlinearity="linear", rng=0, dtype=np.float64)
    cell.weight_hh.data = np.asarray(W, float)
    return cell


class Gated(nn.Cell):
    """A cell of one's own, its state a dict, one of its tensors a matrix for each sequence."""

    def __init__(self):
        self.input_size, self.state_size = I, {"h": H, "m": H}
        self.gate = nn.Linear(I + H, H, rng=0, dtype=np.float64)

    def initial_state(self, x):
        return {"h": tg.tensor(np.zeros((len(x), H))), "m": tg.tensor(np.zeros((len(x), 2, H)))}

    def step(self, x, state):
        z = tg.sigmoid(self.gate(tg.concatenate([x, state["h"]], axis=-1)))
        m = 0.9 * state["m"] + z[:, None] * state["h"][:, None]
        return z, {"h": tg.tanh(m.sum(axis=1)) + z, "m": m}


def make(kind, *sizes, **keywords):
    return kind(*(sizes or (I, H)), rng=0, dtype=np.float64, **keywords)


CELLS = {
    "rnn": lambda: make(nn.RNNCell),
    "relu": lambda: make(nn.IRNNCell),
    "lstm": lambda: make(nn.LSTMCell),
    "gru": lambda: make(nn.GRUCell),
    "leaky": lambda: make(nn.LeakyCell, I, H, 0.3),
    "clockwork": lambda: make(nn.ClockworkCell, I, H, (1, 2)),
    "reservoir": lambda: nn.Reservoir(I, 10, leak=0.5, rng=0),
    "zoneout": lambda: nn.Zoneout(make(nn.LSTMCell), 0.3, rng=0).eval(),
    "dropout": lambda: nn.VariationalDropout(make(nn.GRUCell), 0.3, 0.3, 0.3, rng=0).eval(),
    "residual": lambda: nn.Residual(make(nn.GRUCell, I, I)),
    "dilated": lambda: nn.Dilated(make(nn.LSTMCell), 2),
    "skip": lambda: nn.TimeSkip(make(nn.GRUCell), 2, rng=0),
    "normalized": lambda: nn.LayerNormalized(make(nn.LSTMCell)),
    "own": Gated,
}


def differences(cell, run, t, b):
    """J_t of one sequence by central differences of a step."""
    flat, eps = run.flat, 1e-6
    state = trees.map(lambda s: s[t, b : b + 1], run.before)
    vector, x = flat.join(state), run.xs[t, b : b + 1]
    columns = []
    for j in range(flat.size):
        moved = [vector + s * eps * np.eye(flat.size)[j] for s in (1, -1)]
        up, down = (flat.join(cell.step(x, flat.state(m, flat.constants(state)))[1]) for m in moved)
        columns.append((np.asarray(up.data) - np.asarray(down.data))[0] / (2 * eps))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("name", CELLS)
def test_they_are_the_derivatives_of_a_step(name):
    cell, xs = CELLS[name](), draw(T, B, I)
    found, run = step_jacobians(cell, xs), steps.steps_of(cell, xs)
    assert found.matrices.shape == (T, B, run.flat.size, run.flat.size) and found.matrices.dtype == np.float64
    for t, b in (0, 0), (1, 2), (T - 1, 1):
        np.testing.assert_allclose(found.matrices[t, b], differences(cell, run, t, b), rtol=1e-6, atol=1e-8)
    _, _, states = tg.scan(cell, xs, states=True)
    if name not in ("clockwork", "dropout"):  # which have parts that are no numbers of the state
        np.testing.assert_allclose(found.states[1:], np.asarray(run.flat.join(states, 2).data), rtol=1e-12)


def test_those_of_a_tanh_cell_in_closed_form():
    cell, xs = CELLS["rnn"](), draw(T, B, I)
    found, hs = step_jacobians(cell, xs), tg.scan(cell, xs)[0].data
    expected = (1 - hs**2)[..., None] * cell.weight_hh.data
    np.testing.assert_allclose(found.matrices, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.norms, np.linalg.norm(expected, 2, axis=(-2, -1)), rtol=1e-12)
    np.testing.assert_allclose(found.spectral_radii, np.abs(np.linalg.eigvals(expected)).max(-1), rtol=1e-12)
    assert (found.singular_values[..., 0] == found.norms).all() and found.singular_values.shape == (T, B, H)


def test_the_memory_of_an_lstm_is_multiplied_by_its_forget_gate():
    """Without recurrent weights, ∂c_t/∂c_{t-1} = diag(f_t), and nothing else goes into c_t."""
    cell, xs = CELLS["lstm"](), draw(T, B, I)
    cell.weight_hh.data = np.zeros_like(cell.weight_hh.data)
    found = step_jacobians(cell, xs)
    with nn.watching(cell) as seen:
        tg.scan(cell, xs, compiled=False)
    h, c = found.parts["state[0]"], found.parts["state[1]"]
    for t in range(T):
        np.testing.assert_allclose(found.matrices[t, 1][c, c], np.diag(seen["f"][t].data[1]), rtol=1e-12)
    assert not found.matrices[..., c, h].any()


def test_the_product_of_the_jacobians_is_what_the_tape_multiplies_with():
    cell, xs = CELLS["lstm"](), draw(T, B, I)
    start = tuple(tg.tensor(draw(B, H, seed=s), requires_grad=True) for s in (2, 3))
    found, g = step_jacobians(cell, xs, start), draw(B, 2 * H, seed=4)
    _, (h, c) = tg.scan(cell, xs, start)
    expected = tg.gradients((tg.concatenate([h, c], axis=-1) * g).sum(), [*start])
    ours = np.einsum("bij,bi->bj", found.product(T, 0), g)
    np.testing.assert_allclose(ours, np.concatenate([e.data for e in expected], axis=-1), rtol=1e-10)
    both = found.product(T, 20) @ found.product(20, 0)
    np.testing.assert_allclose(both, found.product(T, 0), rtol=1e-9, atol=1e-15)
    logs = [np.log(np.linalg.norm(found.product(T, k), 2, axis=(-2, -1))) for k in range(T + 1)]
    np.testing.assert_allclose(found.log_products(), logs, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found.product(5, 5), np.broadcast_to(np.eye(2 * H), (B, 2 * H, 2 * H)))


def test_norms_of_products_beyond_what_a_number_holds():
    found = step_jacobians(linear(3 * TURN), np.zeros((1000, 1, 1)))
    np.testing.assert_allclose(found.log_products()[:, 0], np.arange(1000, -1, -1) * np.log(3), rtol=1e-12)
    found = step_jacobians(linear(SHEAR), np.zeros((70, 2, 1)))
    powers = [np.linalg.norm(np.linalg.matrix_power(SHEAR, k), 2) for k in range(71)]
    np.testing.assert_allclose(np.exp(found.log_products()), np.stack([powers[::-1]] * 2, axis=1), rtol=1e-11)
    np.testing.assert_allclose(np.exp(found.log_products(9))[0], 38.7, atol=0.05)
    nilpotent = step_jacobians(linear([[0.0, 1.0], [0.0, 0.0]]), np.zeros((4, 1, 1)))
    assert nilpotent.log_products()[:, 0].tolist() == [-np.inf] * 3 + [0.0, 0.0]
    assert "10^-inf" in repr(nilpotent)


def test_a_matrix_that_turns_keeps_every_gradient():
    """Norm 1 in all directions: nothing vanishes or explodes, and nothing is forgotten, either (no selection)."""
    found = step_jacobians(linear(TURN), draw(100, 2, 1))
    np.testing.assert_allclose(found.singular_values, 1, rtol=1e-13)
    np.testing.assert_allclose(found.log_products(), 0, atol=1e-12)


def test_what_a_step_hands_on_as_it_is_is_constant():
    """The masks of a dropout are carried in the state, and are no numbers of it; nor is a clock."""
    for name, parts in ("dropout", ["state[0]"]), ("clockwork", ["state[0]"]), ("own", ["state['h']", "state['m']"]):
        found = step_jacobians(CELLS[name](), draw(5, B, I))
        assert list(found.parts) == parts
        assert found.states.shape == (6, B, sum(part.stop - part.start for part in found.parts.values()))


@pytest.mark.parametrize("skip", [2, 3])
def test_parts_of_a_state_that_start_as_one_object(skip):
    """A dilated cell starts from as many times the same zeros; each of them is a part of its state."""
    cell = nn.Dilated(linear([[0.5]]), skip)
    found = step_jacobians(cell, np.zeros((2 * skip, 1, 1)))
    np.testing.assert_allclose(found.product(2 * skip, 0)[0], 0.25 * np.eye(skip), atol=1e-15)
    exponents = lyapunov_exponents(cell, np.zeros((40 * skip, 1, 1))).exponents
    np.testing.assert_allclose(exponents, np.log(0.5) / skip, rtol=0.1)
    skipping = nn.TimeSkip(linear([[0.5]]), 3, rng=0, dtype=np.float64)
    assert step_jacobians(skipping, np.zeros((4, 1, 1))).matrices.shape == (4, 1, 3, 3)


def test_what_is_handed_on_at_the_first_step_only_is_a_part_of_the_state():
    class Late(nn.Cell):
        input_size = 1

        def initial_state(self, x):
            return tg.tensor(np.zeros((len(x), 1))), tg.tensor(np.ones((len(x), 1)))

        def step(self, x, state):
            h, w = state
            return h, (w * h + x, w if not x.any() else tg.where(x > 0, 0.5 * w, w))

    found = step_jacobians(Late(), np.arange(4.0).reshape(4, 1, 1))
    np.testing.assert_allclose(found.matrices[:, 0, 1, 1], [1, 0.5, 0.5, 0.5])


def test_an_error_leaves_the_generators_as_they_were():
    class Torn(nn.RNNCell):
        def step(self, x, state):
            self.rng.random()
            raise RuntimeError("torn")

    for kind in np.random.PCG64, np.random.MT19937:
        cell = make(Torn)
        cell.rng = np.random.Generator(kind(3))
        expected = np.random.Generator(kind(3)).random()
        with pytest.raises(RuntimeError, match="torn"):
            step_jacobians(cell, draw(T, B, I))
        assert cell.rng.random() == expected
        quiet = make(nn.RNNCell)
        quiet.rngs = {"masks": [np.random.Generator(kind(3))]}
        assert step_jacobians(quiet, draw(3, B, I)).matrices.shape == (3, B, H, H)


def test_in_parts_they_are_the_same(monkeypatch):
    cell, xs = CELLS["gru"](), draw(T, B, I)
    whole = step_jacobians(cell, xs)
    monkeypatch.setattr(steps, "AT_ONCE", 7 * B * H * H)
    np.testing.assert_allclose(step_jacobians(cell, xs).matrices, whole.matrices, rtol=1e-13, atol=1e-16)


def test_a_bar_shows_how_far_it_is(monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **options):
            self.options, self.done, self.closed = options, 0, False
            bars.append(self)

        def update(self):
            self.done += 1

        def close(self):
            self.closed = True

    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(steps, "AT_ONCE", 1)
    step_jacobians(CELLS["rnn"](), draw(5, B, I))
    (bar,) = bars
    assert bar.done == bar.options["total"] == 5 and bar.closed and bar.options["delay"] > 0
    step_jacobians(CELLS["rnn"](), draw(5, B, I), progress=False)
    assert len(bars) == 1
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert len(step_jacobians(CELLS["rnn"](), draw(5, B, I)).matrices) == 5


def test_nothing_is_recorded_or_changed(xp):
    cell = nn.LSTMCell(I, H, rng=0)
    cell.to("cpu" if xp is np else "cuda")
    with tg.no_grad():
        found = step_jacobians(cell, xp.asarray(draw(5, B, I).astype(np.float32)))
    assert type(found.matrices) is np.ndarray and type(found.states) is np.ndarray
    assert all(p.grad is None for p in cell.parameters())
    assert found.matrices.any() and found.matrices.dtype == np.float64


def test_a_function_is_a_cell_too():
    W = draw(H, H)
    found = step_jacobians(lambda x, h: (h, tg.sin(h @ W) + x), draw(3, B, 1), np.zeros((B, H)))
    np.testing.assert_allclose(found.matrices[0, 0], W.T, rtol=1e-13)


class Coupled(nn.Cell):
    """The sequences of a batch know of each other."""

    input_size, state_size = I, I

    def step(self, x, h):
        h = tg.tanh(x + h.mean(axis=0))
        return h, h


class Net(nn.Module):
    """It has cells, some of them in a network, one in a wrapper; and it knows itself."""

    def __init__(self):
        self.net, self.last, self.all = nn.RNN(I, H, rng=0), nn.Zoneout(nn.GRUCell(H, H, rng=0), 0.5, rng=0), [self]


class Numbers(nn.Cell):
    input_size = I

    def initial_state(self, x):
        return tg.tensor(np.zeros(len(x), np.int64))

    def step(self, x, n):
        return x, n + 1


WRONG = {
    "no steps": (lambda: step_jacobians(make(nn.RNNCell), np.ones((0, B, I))), ValueError, "at least one step"),
    "no batch": (lambda: step_jacobians(make(nn.RNNCell), np.ones((T, I))), ValueError, r"xs\[:, None\]"),
    "no sequences": (lambda: step_jacobians(make(nn.RNNCell), np.ones((T, 0, I))), ValueError, "at least one sequence"),
    "none to follow": (lambda: lyapunov_exponents(make(nn.RNNCell), np.ones((T, 0, I))), ValueError, "one sequence"),
    "four axes": (lambda: step_jacobians(make(nn.RNNCell), np.ones((1, T, B, I))), ValueError,
                  r"expected \(time, batch, features\), got float64 \(1, 36, 3, 2\)$"),
    "a network": (lambda: step_jacobians(nn.LSTM(I, H, 2, rng=0), np.ones((T, B, I))), TypeError,
                  r"its cells are model.layers\[0\]\['forward'\], model.layers\[1\]\['forward'\]$"),
    "a network's bound": (lambda: gradient_bound(nn.RNN(I, H, rng=0)), TypeError,
                          r"got RNN: .*its cell is model.layers\[0\]\['forward'\]$"),
    "a network of one's own": (lambda: lyapunov_exponents(Net(), np.ones((T, B, I))), TypeError,
                               r"its cells are model.net.layers\[0\]\['forward'\], model.last$"),
    "no bound": (lambda: step_jacobians(make(nn.RNNCell), draw(T, B, I)).plot(bound=3), TypeError, "bound: .*got 3"),
    "powers": (lambda: gradient_bound(TURN, "tanh").powers(-1), ValueError, "lags: expected a whole number"),
    "a list": (lambda: step_jacobians(make(nn.RNNCell), [1.0]), TypeError, "time first"),
    "no cell": (lambda: step_jacobians(nn.Linear(I, H), np.ones((T, B, I))), TypeError, "a module"),
    "a state that is a number": (lambda: step_jacobians(lambda x, n: (x, n + x.sum()), np.ones((T, B)), 0.0),
                                 ValueError, "an axis of 3 sequences first"),
    "coupled": (lambda: step_jacobians(Coupled(), draw(T, B, I)), ValueError, "other rows of a batch"),
    "no floats": (lambda: step_jacobians(Numbers(), draw(T, B, I)), TypeError, "floating-point numbers in it"),
    "not finite": (lambda: step_jacobians(linear(1e200 * TURN), np.ones((T, 1, 1))), FloatingPointError,
                   "not finite after step 2 "),
    "t": (lambda: step_jacobians(linear(TURN), np.ones((3, 1, 1))).product(4, 0), ValueError, "≤ 3, got t=4"),
    "s": (lambda: step_jacobians(linear(TURN), np.ones((3, 1, 1))).product(1, 2), ValueError, "got t=1, s=2"),
    "log t": (lambda: step_jacobians(linear(TURN), np.ones((3, 1, 1))).log_products(4), ValueError, "at most 3"),
    "an LSTM's bound": (lambda: gradient_bound(nn.LSTMCell(I, H)), TypeError, "step_jacobians"),
    "a clockwork's bound": (lambda: gradient_bound(CELLS["clockwork"]()), TypeError, "expected an RNNCell"),
    "no matrix": (lambda: gradient_bound({}, "tanh"), TypeError, "or its matrix"),
    "no nonlinearity": (lambda: gradient_bound(TURN), ValueError, "expected one beside a matrix"),
    "two": (lambda: gradient_bound(make(nn.RNNCell), "tanh"), ValueError, "says it itself, 'tanh'"),
    "unknown": (lambda: gradient_bound(TURN, "softplus"), ValueError, "'tanh'.*got 'softplus'"),
    "own": (lambda: gradient_bound(make(nn.RNNCell, nonlinearity=tg.sin)), ValueError, "how steep"),
    "not square": (lambda: gradient_bound(np.ones((2, 3)), "tanh"), ValueError, r"w: expected a square .*\(2, 3\)"),
    "NaN": (lambda: gradient_bound(np.full((2, 2), np.nan), "tanh"), ValueError, "finite"),
    "no state": (lambda: lyapunov_exponents(tg.sin, steps=9), ValueError, "state, steps"),
    "no steps of a map": (lambda: lyapunov_exponents(tg.sin, state=0.1), ValueError, "state, steps"),
    "steps and xs": (lambda: lyapunov_exponents(make(nn.RNNCell), draw(T, B, I), steps=9), ValueError, "its own"),
    "no xs": (lambda: lyapunov_exponents(make(nn.RNNCell), steps=9), TypeError, "a cell with xs"),
    "integers": (lambda: lyapunov_exponents(tg.sin, state=np.array([1]), steps=9), ValueError, "floating-point"),
    "a word": (lambda: lyapunov_exponents(tg.sin, state="a", steps=9), ValueError, "floating-point.*got 'a'"),
    "too many": (lambda: lyapunov_exponents(tg.sin, state=0.1, steps=9, number=2), ValueError, "at most 1"),
    "all left out": (lambda: lyapunov_exponents(tg.sin, state=0.1, steps=9, discard=9), ValueError, "less than"),
    "escaped": (lambda: lyapunov_exponents(lambda x: 5 * x * (1 - x), state=0.3, steps=90), FloatingPointError, "step"),
    "another shape": (lambda: lyapunov_exponents(lambda v: v[..., 0], state=[0.1, 0.1], steps=9), ValueError, "map"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name):
    call, kind, words = WRONG[name]
    with pytest.raises(kind, match=words), np.errstate(all="ignore"):
        call()


def test_coordinates_are_on_the_last_axis():
    with pytest.raises(IndexError) as caught:
        lyapunov_exponents(lambda v: tg.stack([v[0], v[1]]), state=[0.1, 0.1], steps=9)
    assert "x[..., 0]" in caught.value.__notes__[-1]


@pytest.mark.parametrize("name", ["Zoneout", "RecurrentDropout", "VariationalDropout"])
def test_what_is_drawn_is_refused_and_not_used_up(name):
    cell = getattr(nn, name)(make(nn.LSTMCell), 0.5, rng=3)
    before = cell.rng.bit_generator.state
    with pytest.raises(ValueError, match=rf"{name}: it draws random numbers.*\.eval\(\)"):
        step_jacobians(cell, draw(T, B, I))
    assert cell.rng.bit_generator.state == before


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_the_norm_counts_and_not_the_eigenvalues():
    """W = [[.9, 10], [0, .9]]: ρ = .9, and ‖W^9‖ = 38.7; below 1 only from k = 63 on."""
    found = gradient_bound(SHEAR, "linear")
    assert found.radius == pytest.approx(0.9) and found.norm == pytest.approx(10.08, abs=0.005)
    assert found.may_explode and not found.vanishes
    powers = found.powers(80)
    np.testing.assert_allclose(powers, [np.linalg.norm(np.linalg.matrix_power(SHEAR, k), 2) for k in range(81)])
    assert powers[9] == pytest.approx(38.7, abs=0.05) and np.flatnonzero(powers[1:] < 1)[0] + 1 == 63
    assert "10.08 is above 1" in repr(found) and "in the end" in repr(found)


@pytest.mark.parametrize(("nonlinearity", "gamma"), [("tanh", 1), ("relu", 1), ("linear", 1), ("sigmoid", 0.25)])
def test_the_bound_holds_for_what_is_measured(nonlinearity, gamma):
    for scale in 0.5, 1.3:
        cell = make(nn.RNNCell, nonlinearity=nonlinearity)
        cell.weight_hh.data = scale * cell.weight_hh.data / np.linalg.norm(cell.weight_hh.data, 2)
        found, measured = gradient_bound(cell), step_jacobians(cell, draw(T, B, I)).log_products()
        assert found.gamma == gamma and found.factor == pytest.approx(gamma * scale)
        assert (measured <= found.log_bound(np.arange(T, -1, -1))[:, None] + 1e-12).all()
        assert found.vanishes == (gamma * scale < 1)
    again = gradient_bound(cell.weight_hh, nonlinearity)
    assert (again.norm, again.radius) == (found.norm, found.radius)


def test_at_the_edge_nothing_follows():
    for nonlinearity, W in ("tanh", TURN), ("sigmoid", 4 * TURN):
        found = gradient_bound(W, nonlinearity)
        assert not found.vanishes and not found.may_explode and "exactly 1" in repr(found)
    assert gradient_bound(np.zeros((2, 2)), "tanh").log_bound([0, 1]).tolist() == [0, -np.inf]


# Lyapunov exponents ---------------------------------------------------------------------------------------------------


def henon(v):
    x, y = tg.unstack(v, axis=-1)
    return tg.stack([1 - 1.4 * x * x + y, 0.3 * x], axis=-1)


def test_those_of_the_logistic_map():
    """ln 2 at r = 4; ln |r (1 - 2x*)| at the fixed point of r = 2.5."""
    starts = np.random.default_rng(0).uniform(0.1, 0.9, (40, 1))
    found = lyapunov_exponents(lambda x: 4 * x * (1 - x), state=starts, steps=1000)
    assert found.exponents[0] == pytest.approx(np.log(2), abs=2e-3)
    assert found.growth.shape == (900, 40, 1) and found.by_sequence.shape == (40, 1)
    found = lyapunov_exponents(lambda x: 2.5 * x * (1 - x), state=0.3, steps=400, discard=200)
    assert found.exponents[0] == pytest.approx(np.log(0.5), abs=1e-12) and found.dimension == 0


def test_those_of_the_henon_map():
    """.419 and -1.623 (their sum is exactly ln .3, as the map contracts areas by that), and a dimension of 1.26."""
    found = lyapunov_exponents(henon, state=[0.1, 0.1], steps=10_000)
    np.testing.assert_allclose(found.exponents, [0.419, -1.623], atol=0.01)
    assert found.exponents.sum() == pytest.approx(np.log(0.3), abs=1e-12)
    assert found.dimension == pytest.approx(1.26, abs=0.01)
    np.testing.assert_allclose(found.history[-1], found.exponents, rtol=1e-12)
    first = lyapunov_exponents(henon, state=[0.1, 0.1], steps=10_000, number=1)
    assert first.exponents[0] == pytest.approx(found.exponents[0], abs=1e-3) and np.isnan(first.dimension)


def test_those_of_a_linear_cell_are_of_its_eigenvalues():
    W = draw(5, 5) / 3
    found = lyapunov_exponents(linear(W), np.zeros((2000, 2, 1)), discard=500)
    np.testing.assert_allclose(found.exponents, np.sort(np.log(np.abs(np.linalg.eigvals(W))))[::-1], atol=2e-3)
    assert lyapunov_exponents(linear(np.triu(W)), np.zeros((2000, 1, 1)), number=1).exponents[0] == pytest.approx(
        np.log(np.abs(np.diag(W)).max()), abs=5e-3
    )


def test_the_dimension():
    """Two directions grow, by 2 and 1.5, and one shrinks by 10: 2 + ln 3 / ln 10."""
    found = lyapunov_exponents(linear(np.diag([0.1, 2.0, 1.5])), np.zeros((300, 1, 1)), discard=200)
    assert found.dimension == pytest.approx(2 + np.log(3) / np.log(10), abs=1e-6)
    assert lyapunov_exponents(lambda x: 4 * x * (1 - x), state=0.3, steps=400).dimension == 1
    assert lyapunov_exponents(linear(TURN), np.zeros((300, 1, 1))).dimension == 2
    assert lyapunov_exponents(linear(0.5 * TURN), np.zeros((300, 1, 1))).dimension == 0
    assert np.isnan(lyapunov_exponents(linear(2 * TURN), np.zeros((300, 1, 1)), number=1).dimension)


def test_a_map_that_changes_nothing():
    found = lyapunov_exponents(lambda v: v, state=[0.1, 0.2], steps=9)
    np.testing.assert_allclose(found.exponents, [0, 0], atol=1e-15)


def test_their_sum_is_the_mean_change_of_volume():
    cell, xs = CELLS["lstm"](), draw(200, B, I)
    found = lyapunov_exponents(cell, xs, discard=0)
    logs = np.linalg.slogdet(step_jacobians(cell, xs).matrices)[1]
    assert found.exponents.sum() == pytest.approx(logs.mean(), rel=1e-9)
    same = lyapunov_exponents(cell, xs, discard=0)
    np.testing.assert_array_equal(found.growth, same.growth)
    assert (np.diff(found.exponents) <= 0).all() and found.exponents[0] < 0


def test_figures():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    cell = CELLS["rnn"]()
    found = step_jacobians(cell, draw(T, B, I))
    assert found.plot(ax, bound=gradient_bound(cell)) is ax
    drawn, bound = ax.lines
    np.testing.assert_allclose(drawn.get_ydata(), np.median(found.log_products(), axis=1) / np.log(10))
    assert (bound.get_ydata() >= drawn.get_ydata() - 1e-9).all()
    forgets = step_jacobians(linear([[0.0, 1.0], [0.0, 0.0]]), np.zeros((4, 1, 1))).plot().lines[0]
    assert forgets.get_xdata().tolist() == [3, 4] and np.isfinite(forgets.get_ydata()).all()  # W² = 0
    assert lyapunov_exponents(henon, state=[0.1, 0.1], steps=50).plot().get_legend()
    plt.close("all")


def test_what_is_said_of_them():
    assert "36 steps, 3 sequences, 4 numbers" in repr(step_jacobians(CELLS["rnn"](), draw(T, B, I)))
    assert repr(lyapunov_exponents(tg.sin, state=0.5, steps=10)).endswith("(from 9 steps of 1 sequence)")
    assert set(analysis.__all__) <= set(dir(analysis))
