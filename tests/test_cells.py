"""Cells and the loop over them: against their equations in plain NumPy, against PyTorch, and in odd shapes."""

from __future__ import annotations

import gc
import re
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn

T, B, I, H = 5, 3, 2, 4  # noqa: E741  steps, sequences, features, units


def σ(x):
    return 1 / (1 + np.exp(-x))


# The equations, once more. Complex numbers pass through them, so a complex step differentiates them.


def rnn(w, x, h):
    h = np.tanh(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"])
    return h, h


def relu_rnn(w, x, h):
    a = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    h = np.where(a.real > 0, a, 0)
    return h, h


def gru(w, x, h):
    (w_ir, w_iz, w_in), (w_hr, w_hz, w_hn) = np.split(w["weight_ih"], 3), np.split(w["weight_hh"], 3)
    (b_ir, b_iz, b_in), (b_hr, b_hz, b_hn) = np.split(w["bias_ih"], 3), np.split(w["bias_hh"], 3)
    r = σ(w_ir @ x + b_ir + w_hr @ h + b_hr)
    z = σ(w_iz @ x + b_iz + w_hz @ h + b_hz)
    n = np.tanh(w_in @ x + b_in + r * (w_hn @ h + b_hn))
    h = (1 - z) * n + z * h
    return h, h


def gru_reset_before(w, x, h):
    (w_ir, w_iz, w_in), (w_hr, w_hz, w_hn) = np.split(w["weight_ih"], 3), np.split(w["weight_hh"], 3)
    (b_ir, b_iz, b_in), (b_hr, b_hz, b_hn) = np.split(w["bias_ih"], 3), np.split(w["bias_hh"], 3)
    r = σ(w_ir @ x + b_ir + w_hr @ h + b_hr)
    z = σ(w_iz @ x + b_iz + w_hz @ h + b_hz)
    n = np.tanh(w_in @ x + b_in + w_hn @ (r * h) + b_hn)
    h = (1 - z) * n + z * h
    return h, h


def lstm(w, x, state):
    h, c = state
    (w_ii, w_if, w_ig, w_io), (w_hi, w_hf, w_hg, w_ho) = np.split(w["weight_ih"], 4), np.split(w["weight_hh"], 4)
    (b_ii, b_if, b_ig, b_io), (b_hi, b_hf, b_hg, b_ho) = np.split(w["bias_ih"], 4), np.split(w["bias_hh"], 4)
    i = σ(w_ii @ x + b_ii + w_hi @ h + b_hi)
    f = σ(w_if @ x + b_if + w_hf @ h + b_hf)
    g = np.tanh(w_ig @ x + b_ig + w_hg @ h + b_hg)
    o = σ(w_io @ x + b_io + w_ho @ h + b_ho)
    c = f * c + i * g
    h = o * np.tanh(c)
    return h, (h, c)


CELLS = {
    "rnn": (lambda **k: nn.RNNCell(I, H, **k), rnn),
    "relu": (lambda **k: nn.RNNCell(I, H, nonlinearity="relu", **k), relu_rnn),
    "irnn": (lambda **k: nn.IRNNCell(I, H, std=0.5, **k), relu_rnn),
    "gru": (lambda **k: nn.GRUCell(I, H, **k), gru),
    "gru-before": (lambda **k: nn.GRUCell(I, H, reset_after=False, **k), gru_reset_before),
    "lstm": (lambda **k: nn.LSTMCell(I, H, **k), lstm),
}
each_cell = pytest.mark.parametrize(("make", "equations"), CELLS.values(), ids=CELLS)


class MinimalGatedCell(nn.Cell):
    def __init__(self, input_size, hidden_size, rng=None, dtype=np.float64):
        rng = np.random.default_rng(rng)
        self.input_size, self.state_size = input_size, hidden_size
        self.forget = nn.Linear(input_size + hidden_size, hidden_size, rng=rng, dtype=dtype)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size, rng=rng, dtype=dtype)

    def step(self, x, h):
        f = tg.sigmoid(self.forget(tg.concatenate([x, h], axis=-1)))
        n = tg.tanh(self.candidate(tg.concatenate([x, f * h], axis=-1)))
        h = (1 - f) * h + f * n
        return h, h


def float64(make, seed=0):
    """A cell with weights, biases included, that are no special case."""
    cell, rng = make(rng=seed, dtype=np.float64), np.random.default_rng(seed)
    for p in cell.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape)
    return cell


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def states_of(cell, seed=2):
    """A state that is not zero, of arrays."""
    states = [draw(B, size, seed=seed + i) for i, size in enumerate(leaves(cell.state_size))]
    return tuple(states) if isinstance(cell.state_size, tuple) else states[0]


def plain_loop(equations, w, xs, state):
    """The loop in plain NumPy, for each sequence alone."""
    columns = []
    for b in range(xs.shape[1]):
        s = tuple(part[b] for part in state) if isinstance(state, tuple) else state[b]
        ys = []
        for x in xs[:, b]:
            y, s = equations(w, x, s)
            ys.append(y)
        columns.append((np.stack(ys), s))
    last = [s for _, s in columns]
    last = tuple(map(np.stack, zip(*last))) if isinstance(state, tuple) else np.stack(last)
    return np.stack([ys for ys, _ in columns], axis=1), last


def leaves(state):
    return state if isinstance(state, tuple) else (state,)


def check_values(cell, equations, state):
    """A scan of the cell is the loop of the equations: the outputs and the last state."""
    xs = draw(T, B, cell.input_size)
    ys, last = tg.scan(cell, xs, state)
    expected, expected_last = plain_loop(equations, cell.state_dict(), xs, state)
    np.testing.assert_allclose(ys.data, expected, rtol=1e-12, atol=1e-14)
    for a, b in zip(leaves(last), leaves(expected_last), strict=True):
        np.testing.assert_allclose(a.data, b, rtol=1e-12, atol=1e-14)


def check_gradient(cell, equations, state):
    """The gradient of the loop is that of the equations, with regard to every weight, the inputs and the first state:
    by a complex step, so to the last digits."""
    xs = draw(T, B, cell.input_size)
    x_leaf = tg.tensor(xs, requires_grad=True)
    s_leaves = [tg.tensor(s, requires_grad=s.dtype.kind == "f") for s in leaves(state)]
    ys, last = tg.scan(cell, x_leaf, tuple(s_leaves) if isinstance(state, tuple) else s_leaves[0])
    weights = draw(*ys.shape, seed=8), [draw(*s.shape, seed=9 + i) for i, s in enumerate(leaves(last))]

    def loss(ys, last):
        return (weights[0] * ys).sum() + sum((w * s).sum() for w, s in zip(weights[1], leaves(last)))

    loss(ys, last).backward()
    w = cell.state_dict()
    places = {**w, "xs": xs, **{f"state{i}": s for i, s in enumerate(leaves(state))}}
    grads = {**{name: p.grad for name, p in cell.named_parameters()}, "xs": x_leaf.grad}
    grads |= {f"state{i}": s.grad for i, s in enumerate(s_leaves) if s.requires_grad}
    for name, grad in grads.items():
        expected = np.zeros_like(places[name])
        for index in np.ndindex(expected.shape):
            moved = {key: value.astype(complex) for key, value in places.items()}
            moved[name][index] += 1e-20j
            start = tuple(moved[f"state{i}"] for i in range(len(s_leaves)))
            start = start if isinstance(state, tuple) else start[0]
            expected[index] = loss(*plain_loop(equations, moved, moved["xs"], start)).imag / 1e-20
        got = 0 if grad is None else grad.data  # None: nothing depends on it
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12, err_msg=name)


def check_second_order(cell, state):
    names = [name for name, _ in cell.named_parameters()]

    def f(xs, state, *weights):
        for name, weight in zip(names, weights):
            *above, last = name.split(".")
            place = getattr(cell, above[0]) if above else vars(cell)
            place[last] = weight
        return tg.scan(cell, xs, state)

    xs = draw(3, B, cell.input_size)
    tg.check_gradients(f, xs, state, *[p.data for p in cell.parameters()], order=2)


@each_cell
def test_a_scan_is_the_equations(make, equations):
    cell = float64(make)
    check_values(cell, equations, states_of(cell))


@each_cell
def test_the_gradient_of_the_loop_is_that_of_the_equations(make, equations):
    cell = float64(make)
    check_gradient(cell, equations, states_of(cell))


@each_cell
def test_higher_orders_of_the_loop(make, equations):
    cell = float64(make)
    check_second_order(cell, states_of(cell))


@pytest.mark.parametrize("name", ["RNN-tanh", "RNN-relu", "GRU", "LSTM"])
@pytest.mark.parametrize("bias", [True, False])
def test_cells_are_torchs(name, bias):
    torch = pytest.importorskip("torch")
    kind, _, nonlinearity = name.partition("-")
    keywords = {"nonlinearity": nonlinearity} if nonlinearity else {}
    theirs = getattr(torch.nn, kind + "Cell")(I, H, bias=bias, dtype=torch.float64, **keywords)
    ours = getattr(nn, kind + "Cell")(I, H, bias=bias, rng=0, dtype=np.float64, **keywords)
    ours.load_state_dict({key: p.detach().numpy() for key, p in theirs.state_dict().items()})
    xs, state = draw(T, B, I), states_of(ours)
    x_ours, x_theirs = tg.tensor(xs, requires_grad=True), torch.tensor(xs, requires_grad=True)
    s = tuple(map(torch.tensor, state)) if isinstance(state, tuple) else torch.tensor(state)
    ys, loss = tg.scan(ours, x_ours, state)[0], 0
    for t in range(T):
        s = theirs(x_theirs[t], s)
        h = s[0] if isinstance(s, tuple) else s
        np.testing.assert_allclose(ys.data[t], h.detach().numpy(), rtol=1e-12, atol=1e-14)
        loss = loss + (h**3).sum()
    loss.backward()
    (ys**3).sum().backward()
    np.testing.assert_allclose(x_ours.grad.data, x_theirs.grad.numpy(), rtol=1e-10, atol=1e-13)
    for key, p in ours.named_parameters():
        np.testing.assert_allclose(p.grad.data, getattr(theirs, key).grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.tape
@each_cell
def test_a_scan_is_a_loop_and_no_state_is_zeros(make, equations):
    cell, xs = make(rng=0), draw(T, B, I).astype(np.float32)
    ys, last = tg.scan(cell, xs)
    state, zeros = None, cell.initial_state(xs[0])
    assert all(s.dtype == np.float32 and s.shape == (B, H) and not s.data.any() for s in leaves(zeros))
    for x, y in zip(xs, ys):
        out, state = cell(x, state)
        np.testing.assert_array_equal(out.data, y.data)
    for a, b, c in zip(leaves(state), leaves(last), leaves(tg.scan(cell, xs, zeros)[1])):
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(a.data, c.data)
        assert b.dtype == np.float32


@each_cell
@pytest.mark.parametrize(("t", "b"), [(0, B), (T, 0), (0, 0), (1, 1)])
def test_no_steps_and_no_sequences(make, equations, t, b):
    cell = make(rng=0)
    zeros = cell.initial_state(np.zeros((b, I), np.float32))
    state = tg.trees.map(lambda s: tg.tensor(s.data + 1, requires_grad=True), zeros)
    xs = tg.tensor(np.ones((t, b, I), np.float32), requires_grad=True)
    ys, last = tg.scan(cell, xs, state)
    assert ys.shape == (t, b, H) and ys.dtype == np.float32
    loss = sum(s.sum() for s in leaves(last)) + ys.sum()
    loss.backward()
    if t == 0:
        assert all(a is b for a, b in zip(leaves(last), leaves(state)))
        assert all((s.grad.data == 1).all() for s in leaves(state))
    else:
        assert xs.grad.shape == xs.shape
        assert all(p.grad.shape == p.shape and (b or not p.grad.data.any()) for p in cell.parameters())


def test_a_sequence_without_a_batch():
    cell, xs = nn.LSTMCell(I, H, rng=0), draw(T, I).astype(np.float32)
    ys, (h, c) = tg.scan(cell, xs)
    assert ys.shape == (T, H) and h.shape == c.shape == (H,)
    np.testing.assert_allclose(ys.data, tg.scan(cell, xs[:, None])[0].data[:, 0], rtol=1e-6)


@each_cell
def test_scans_run_on_every_backend(make, equations, xp):
    cell, xs = make(rng=0), draw(T, B, I).astype(np.float32)
    expected = tg.scan(cell, xs)[0]
    (expected**2).sum().backward()
    grads = [p.grad for p in cell.parameters()]
    cell.zero_grad()
    if xp is not np:
        cell.to("cuda")
    ys, _ = tg.scan(cell, tg.tensor(xp.asarray(xs)))
    (ys**2).sum().backward()
    np.testing.assert_allclose(ys.numpy(), expected.data, rtol=1e-5, atol=1e-6)
    for p, g in zip(cell.parameters(), grads):
        assert p.grad.device == p.device
        np.testing.assert_allclose(p.grad.numpy(), g.data, rtol=1e-4, atol=1e-5)


def test_weights_and_inputs_on_two_devices():
    import fakecupy

    with fakecupy.installed() as cupy:
        cell = nn.GRUCell(I, H, rng=0)
        with pytest.raises(tg.DeviceError, match=r"GRUCell: xs: expected it on 'cpu', .* move one of them"):
            tg.scan(cell, tg.tensor(cupy.asarray(np.ones((T, B, I), np.float32))))


# Cells and functions of one's own


def test_a_cell_of_ones_own():
    cell = MinimalGatedCell(I, H, rng=0)
    ys, h = tg.scan(cell, draw(T, B, I))
    np.testing.assert_array_equal(ys.data[-1], h.data)
    tg.check_gradients(lambda x, h: tg.scan(cell, x, h), draw(T, B, I), draw(B, H, seed=3))


def test_a_function_is_a_cell_if_it_gets_a_state():
    def total(x, state):
        return state + x, state + x

    xs = draw(T, B)
    ys, _ = tg.scan(total, xs, np.zeros(B))
    np.testing.assert_allclose(ys, np.cumsum(xs, axis=0))
    tg.check_gradients(lambda xs: tg.scan(total, xs, 0.0), xs)
    with pytest.raises(ValueError, match="state: a function does not say what its state is"):
        tg.scan(total, xs)


def test_any_nest_of_sizes_is_a_state():
    class Both(nn.Cell):
        def __init__(self):
            self.cells = [nn.LSTMCell(I, H, rng=0), nn.GRUCell(H, H, rng=1)]
            self.input_size, self.state_size = I, {"first": (H, H), "second": H}

        def step(self, x, state):
            x, first = self.cells[0].step(x, state["first"])
            x, second = self.cells[1].step(x, state["second"])
            return x, {"first": first, "second": second}

    xs = draw(T, B, I).astype(np.float32)
    ys, last = tg.scan(Both(), xs)
    expected = tg.scan(Both().cells[1], tg.scan(Both().cells[0], xs)[0])
    np.testing.assert_array_equal(ys.data, expected[0].data)
    assert last["second"].shape == (B, H)


# What is wrong is said in words


class Bad(nn.Cell):
    state_size = H

    def __init__(self, step):
        self.step = step


X = np.ones((T, B, I), np.float32)
WRONG = {
    "features": (lambda: tg.scan(nn.LSTMCell(I, H), np.ones((T, B, 7), np.float32)), tg.ShapeError,
                 r"LSTMCell: xs: expected 2 features on the last axis of \(time, batch, features\), got .*\(5, 3, 7\)"),
    "one step": (lambda: nn.GRUCell(I, H)(np.ones((B, 7), np.float32)), tg.ShapeError,
                 r"GRUCell: x: expected 2 features on the last axis of \(batch, features\), got float32 \(3, 7\)"),
    "features first": (lambda: nn.GRUCell(I, H)(np.ones((I, B), np.float32)), tg.ShapeError,
                       "another axis has that length: are the features last"),
    "a number": (lambda: nn.GRUCell(I, H)(np.float32(1)), tg.ShapeError, "GRUCell: x: expected 2 features .* got np"),
    "a sequence": (lambda: nn.GRUCell(I, H)(X), tg.ShapeError,
                   r"GRUCell: x: expected one step, \(batch, features\), got float32 \(5, 3, 2\): "
                   r"nn.scan\(cell, xs\) runs a cell over a sequence"),
    "a sequence, wrapped": (lambda: nn.Zoneout(nn.GRUCell(I, H), 0.1)(X), tg.ShapeError,
                            r"^Zoneout: x: expected one step, \(batch, features\), got float32 \(5, 3, 2\): "
                            r"nn.scan\(cell, xs\) runs a cell over a sequence$"),
    "a sequence, 1997": (lambda: nn.LSTM1997Cell(I, 2)(X), tg.ShapeError,
                         r"^LSTM1997Cell: x: expected one step, \(batch, features\), got float32 \(5, 3, 2\): "),
    "a list for a step": (lambda: nn.LSTMCell(I, H)([[1.0, 2.0]]), TypeError,
                          r"^LSTMCell: x: expected an array or a tensor, got list: make one of it, with "
                          r"np.asarray\(x\)$"),
    "a list for any step": (lambda: Bad(None)([[1.0, 2.0]]), TypeError,
                            r"^Bad: x: expected an array or a tensor, got list: make one of it, with np.asarray\(x\)$"),
    "dtype": (lambda: tg.scan(nn.RNNCell(I, H), X.astype(float)), TypeError,
              r"RNNCell: xs: expected float32, as the cell's weights are; .* got float64 .*astype\('float32'\)"),
    "integers": (lambda: tg.scan(nn.RNNCell(I, H), X.astype(int)), TypeError, "expected float32"),
    "h without c": (lambda: tg.scan(nn.LSTMCell(I, H), X, X[0, :, :1]), tg.StateError,
                    r"^LSTMCell: state: expected a tuple of 2, got one ndarray: LSTMCell needs \(h, c\), "
                    r"each float32 \(3, 4\)$"),
    "h and c": (lambda: tg.scan(nn.GRUCell(I, H), X, (X[0], X[0])), tg.StateError,
                r"GRUCell: state: expected float32 \(3, 4\)"),
    "a part": (lambda: tg.scan(nn.LSTMCell(I, H), X, (np.zeros((B, H), np.float32), np.zeros((B, 9), np.float32))),
               tg.StateError, r"LSTMCell: state: expected float32 \(3, 4\), got float32 \(3, 9\)"),
    "state's dtype": (lambda: tg.scan(nn.GRUCell(I, H), X, np.zeros((B, H))), tg.StateError,
                      r"GRUCell: state: expected float32 \(3, 4\), got float64 \(3, 4\)"),
    "batch first": (lambda: tg.scan(nn.GRUCell(I, H), X, np.zeros((T, H), np.float32)), tg.StateError,
                    r"got float32 \(5, 4\)\n.*if yours is \(batch, time, features\), pass xs.swapaxes\(0, 1\)"),
    "no tensor": (lambda: tg.scan(nn.GRUCell(I, H), X, 0.0), ValueError, "GRUCell: state: expected float32"),
    "a list": (lambda: tg.scan(nn.GRUCell(I, H), [1, 2]), TypeError, "xs: expected an array or a tensor, time first"),
    "0-d": (lambda: tg.scan(nn.GRUCell(I, H), np.ones(())), TypeError, "xs: expected an array or a tensor"),
    "no pair": (lambda: tg.scan(Bad(lambda x, h: h), X), TypeError,
                r"Bad.step: expected it to return a tuple \(y, state\)"),
    "no pair of rows": (lambda: tg.scan(lambda x, h: h, X[:, :2], tg.tensor(X[0, :2])), TypeError,
                        "expected it to return a tuple"),
    "another state": (lambda: tg.scan(Bad(lambda x, h: (h, x)), X), ValueError,
                      r"Bad.step: the state that it returned: expected float32 \(3, 4\), got float32 \(3, 2\)"),
    "drifting dtype": (lambda: Bad(lambda x, h: (h, h * np.float64(2)))(X[0]), ValueError,
                       "expected float32 .* got float64"),
    "three": (lambda: tg.scan(Bad(lambda x, h: (h, h, h)), X), TypeError,
              r"^Bad.step: expected it to return a tuple \(y, state\), got a tuple of 3: float32 \(3, 4\), .*: put the "
              r"state's tensors into one tuple, as in return y, \(h, c\)$"),
    "two tensors": (lambda: tg.scan(Bad(lambda x, h: (h, (h, h))), X), ValueError,
                    r"state that it returned: expected float32 \(3, 4\), got a tuple of 2: float32 \(3, 4\), float32 "
                    r"\(3, 4\); of a state of several tensors, state_size is a tuple"),
    "a dict of outputs": (lambda: tg.scan(Bad(lambda x, h: ({"a": h, "b": x}, h)), X), TypeError,
                          r"^Bad: its output: expected a tensor or an array, got a dict of 2: 'a': float32 \(3, 4\)"),
    **{f"state_size {size}": (lambda size=size: tg.scan(type("Mine", (nn.Cell,), {"state_size": size})(), X), TypeError,
                              "^Mine: state_size: expected an integer, 0 or more, or a tuple or dict of them, got "
                              + re.escape(repr(size)))
       for size in (4.0, "4", (4, 4.0), -1)},
    "no size": (lambda: tg.scan(nn.Cell(), X), TypeError, "Cell: set self.state_size"),
    "no step": (lambda: tg.scan(type("Idle", (nn.Cell,), {"state_size": 1})(), X), NotImplementedError,
                "Idle: a cell computes"),
    "no units": (lambda: nn.GRUCell(I, 0), ValueError, "hidden_size: expected a whole number, at least 1, got 0"),
    "half a unit": (lambda: nn.LSTMCell(I, 4.5), ValueError, "hidden_size: expected a whole number, .*, got 4.5"),
    "a float": (lambda: nn.GRUCell(I, 4.0), ValueError, "hidden_size: expected a whole number, at least 1, got 4.0"),
    "features as text": (lambda: nn.RNNCell("2", H), ValueError, "input_size: expected a whole number, .*, got '2'"),
    "less than no projection": (lambda: nn.LSTMCell(I, H, proj_size=-1), ValueError,
                                "proj_size: expected a whole number, at least 0, got -1"),
    "nonlinearity": (lambda: nn.RNNCell(I, H, nonlinearity="elu"), ValueError,
                     "nonlinearity: expected one of 'tanh', 'relu', 'sigmoid', 'linear' or a function, got 'elu'"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert re.search(message, text, re.DOTALL), text


def test_a_swapped_layout_is_only_suspected_where_it_fits():
    with pytest.raises(ValueError, match="GRUCell: state") as caught:
        tg.scan(nn.GRUCell(I, H), X, np.zeros((7, H), np.float32))
    assert not getattr(caught.value, "__notes__", [])


def test_anomaly_names_the_step_and_the_cell():
    xs = X.copy()
    xs[3, 1] = 1e38
    cell = nn.RNNCell(I, H, nonlinearity="relu", rng=0)
    cell.weight_ih.data = cell.weight_ih.data * 100
    wanted = pytest.raises(tg.AnomalyError, match=r"matmul made .*step 3 of RNNCell")
    with np.errstate(over="ignore"), tg.anomaly(), wanted:
        tg.scan(cell, xs)


# What it costs


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_paused_and_then_as_before(enabled):
    seen = []

    def step(x, state):
        seen.append(gc.isenabled())
        if x < 0:
            raise KeyError("stop")
        return (tg.scan(step, np.ones(2), 0.0)[0].sum() if x == 5 else x), state

    (gc.enable if enabled else gc.disable)()
    try:
        tg.scan(step, np.array([1.0, 5.0, 2.0]), 0.0)
        with pytest.raises(KeyError):
            tg.scan(step, np.array([1.0, -1.0]), 0.0)
        assert gc.isenabled() is enabled and not any(seen)
    finally:
        gc.enable()


def test_nothing_is_left_on_the_tape():
    cell = nn.LSTMCell(I, H, rng=0)
    gc.collect()
    gc.disable()
    try:
        ys, last = tg.scan(cell, X)
        nodes = [weakref.ref(ys.node), weakref.ref(last[1].node)]
        (ys.sum()).backward()
        del ys, last
        assert [ref() for ref in nodes] == [None, None]
    finally:
        gc.enable()


def test_the_tape_is_linear_in_the_number_of_steps():
    def entries(steps):
        xs = np.ones((steps, 1, I), np.float32)
        return len(tg.tape(tg.scan(nn.LSTMCell(I, H, rng=0), xs, compiled=False)[0]))

    assert entries(40) - entries(30) == entries(30) - entries(20) == 10 * (entries(11) - entries(10))


# Biases of gates, at first


@pytest.mark.parametrize(("kind", "name", "row"), [(nn.LSTMCell, "forget_bias", 1), (nn.GRUCell, "update_bias", 1)])
@pytest.mark.parametrize("value", [2.0, np.array([-1.0, 0.0, 3.0])])
def test_the_bias_of_a_gate_at_first(kind, name, row, value):
    """The two maps' biases add up to it; the others are drawn as they are without it."""
    cell, plain = kind(2, 3, rng=0, **{name: value}), kind(2, 3, rng=0)
    rows = slice(3 * row, 3 * row + 3)
    np.testing.assert_array_equal((cell.bias_ih.data + cell.bias_hh.data)[rows], np.broadcast_to(value, 3))
    for mine, theirs in (cell.bias_ih, plain.bias_ih), (cell.bias_hh, plain.bias_hh):
        np.testing.assert_array_equal(np.delete(mine.data, rows), np.delete(theirs.data, rows))


def test_a_gru_with_a_large_update_bias_keeps_its_state():
    x, h = np.ones((2, 3)), np.full((2, 4), 0.5)
    for bias, gate in (30.0, "keeps"), (-30.0, "overwrites"):
        cell = nn.GRUCell(3, 4, update_gate=gate, update_bias=bias, rng=0, dtype=np.float64)
        np.testing.assert_allclose(cell(x, h)[1].data, h, atol=1e-10)
    assert nn.GRU(3, 4, num_layers=2, update_bias=1.0, rng=0).bias_ih_l1.data[4] == 1


@pytest.mark.parametrize(("kind", "name"), [(nn.LSTMCell, "forget_bias"), (nn.GRUCell, "update_bias")])
@pytest.mark.parametrize("value", [np.nan, np.ones(4), "1", [[1.0]]])
def test_the_bias_of_a_gate_is_a_number_or_one_a_unit(kind, name, value):
    with pytest.raises(ValueError, match=rf"{name}: expected a finite number, or one for each of 3 units, got"):
        kind(2, 3, rng=0, **{name: value})
    with pytest.raises(ValueError, match=rf"{name}: expected an? \w+ gate with a bias, and there is none here"):
        kind(2, 3, bias=False, **{name: 1.0})
