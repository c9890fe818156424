"""The flow of gradients: against back-propagation through time by hand, and undisturbing what it looks at."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.analysis import FlowRecorder, gradient_flow, step_jacobians

T, B, I, H = 40, 3, 2, 4  # noqa: E741  steps (enough to be compiled), sequences, features, units


@pytest.fixture(autouse=True)
def _by_numpy(request, monkeypatch):
    """Long scans are compiled, but not by Numba, which would take longer than all of the tests."""
    if not request.config.getoption("--compiled"):
        monkeypatch.setattr(importlib.import_module("tinygrad_rnn.compile"), "has_numba", lambda: False)


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def make(kind, *sizes, **keywords):
    return kind(*(sizes or (I, H)), rng=0, dtype=np.float64, **keywords)


def last(model, xs):
    """Half the sum of squares of the last outputs."""
    ys = (tg.scan(model, xs) if isinstance(model, nn.Cell) else model(xs))[0]
    return (ys[-1] ** 2).sum() / 2


def test_by_hand():
    """Of a tanh cell with a loss at each step: dL/dh_t = h_t + Wᵀ (1 - h_{t+1}²) dL/dh_{t+1}."""
    cell, xs = make(nn.RNNCell), draw(T, B, I)
    flow = gradient_flow(cell, lambda cell, xs: (tg.scan(cell, xs)[0] ** 2).sum() / 2, xs)
    W, U = cell.weight_hh.data, cell.weight_ih.data
    h, hs = np.zeros((B, H)), []
    for x in xs:
        h = np.tanh(x @ U.T + cell.bias_ih.data + h @ W.T + cell.bias_hh.data)
        hs.append(h)
    dh, expected = np.zeros((B, H)), np.zeros((T, B))
    for t in reversed(range(T)):
        dh = hs[t] + (dh if t == T - 1 else (dh * (1 - hs[t + 1] ** 2)) @ W)
        expected[t] = np.linalg.norm(dh, axis=1)
    assert flow.states == ("state",) and flow.gates == () and flow.share == {}
    np.testing.assert_allclose(flow.norms["state"], expected, rtol=1e-11)
    np.testing.assert_allclose(flow.rms("state"), np.sqrt((expected**2).mean(axis=1)), rtol=1e-11)
    np.testing.assert_allclose(flow.loss, sum((h**2).sum() for h in hs) / 2)


def test_of_a_linear_cell_it_is_the_powers_of_its_matrix():
    """And norms that no square of a number could hold are right."""
    cell = make(nn.RNNCell, 1, 2, bias=False, nonlinearity="linear")
    cell.weight_hh.data = 1e-3 * np.array([[0.0, -1.0], [1.0, 0.0]])
    flow = gradient_flow(cell, lambda cell, xs: tg.scan(cell, xs)[0][-1].sum(), np.ones((100, B, 1)))
    np.testing.assert_allclose(flow.rms("state"), np.sqrt(2) * 1e-3 ** np.arange(99.0, -1, -1), rtol=1e-10)


def test_gates_and_memory_of_an_lstm():
    cell, xs = make(nn.LSTMCell), draw(T, B, I)
    flow = gradient_flow(cell, last, xs)
    assert flow.states == ("state[0]", "state[1]") and flow.gates == ("i", "f", "g", "o")
    np.testing.assert_array_equal(flow.norms["c"], flow.norms["state[1]"])
    h, c = np.zeros((2, B, H))
    leaves = []
    for x in xs:  # the same, by the equations, with leaves in the place of the gates
        net = x @ cell.weight_ih.data.T + h @ cell.weight_hh.data.T + cell.bias_ih.data + cell.bias_hh.data
        i, f, g, o = np.split(net, 4, axis=1)
        before = c
        i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
        g = np.tanh(g)
        c = f * c + i * g
        h = o * np.tanh(c)
        leaves.append((f, before, o, c, h))
    f, before, o, c, h = leaves[-1]
    dc = h * o * (1 - np.tanh(c) ** 2)
    for name, expected in ("o", h * np.tanh(c)), ("c", dc), ("f", dc * before), ("state[0]", h):
        np.testing.assert_allclose(flow.norms[name][-1], np.linalg.norm(expected, axis=1), rtol=1e-11)
    squares = {name: (flow.norms[name] ** 2).sum() for name in "ifgo"}
    for name, value in flow.share.items():
        assert value == pytest.approx(squares[name] / sum(squares.values()))


def test_layers_directions_and_lengths():
    model = nn.GRU(I, H, 2, bidirectional=True, rng=0, dtype=np.float64)
    loss, batch = lambda model, b: (model(b[0], lengths=b[1])[0] ** 2).mean(), (draw(T, B, I), [T - 5, 7, 0])
    flow = gradient_flow(model, loss, batch)
    places = [f"layers.{i}.{way}" for i in range(2) for way in ("forward", "backward")]
    assert flow.states == tuple(f"{place}.state" for place in places)
    assert len(flow.gates) == 12 and all(x.shape == (T, B) for x in flow.norms.values())
    for place in places:
        norms = flow.norms[f"{place}.state"]
        assert np.isnan(norms[T - 5 :]).all() and not norms[: T - 5, 2].any()  # not computed; no input at all
        assert (norms[: T - 5, 0] > 0).all()
        assert sum(flow.share[f"{place}.{gate}"] for gate in "rzn") == pytest.approx(1)
        held = norms[7 : T - 5, 1]
        assert (held == held[-1]).all()  # while a sequence is padded, its state is handed on


def test_however_it_is_run_it_is_the_same():
    xs = draw(T, B, I)
    models = [nn.Recurrent(make(nn.LSTMCell), compiled=mode) for mode in (False, True, "auto", "numpy")]
    flows = [gradient_flow(model, last, xs) for model in models]
    for flow in flows[1:]:
        for name, norms in flows[0].norms.items():
            np.testing.assert_array_equal(flow.norms[name], norms)
    with tg.no_grad():
        assert gradient_flow(make(nn.RNNCell), last, xs).norms["state"].all()


@pytest.mark.parametrize("wrap", [
    lambda c: nn.Zoneout(c, 0.2, rng=0), lambda c: nn.VariationalDropout(c, 0.2, 0.2, rng=0), nn.Dense,
    lambda c: nn.Dilated(c, 3), nn.LayerNormalized, lambda c: nn.TimeSkip(c, 3, rng=0), lambda c: c,
])  # fmt: skip
@pytest.mark.parametrize("kind", [nn.LSTMCell, lambda *s, **k: nn.ClockworkCell(*s, (1, 2), **k), nn.IRNNCell])
def test_of_any_cell(wrap, kind):
    flow = gradient_flow(wrap(make(kind)), last, draw(T, B, I))
    assert flow.states and all(norms[T // 2 :].any() for norms in flow.norms.values())
    for name, norms in flow.norms.items():  # a queue has what the cell starts from, a constant, in its first steps
        assert np.isfinite(norms[2:]).all() and name in repr(flow)


def test_of_what_is_not_trained(xp):
    """The weights of a reservoir are constants, and no gradient would flow there, if it was not asked for."""
    cell = nn.Reservoir(I, 20, leak=0.5, rng=0)
    cell.to("cpu" if xp is np else "cuda")
    flow = gradient_flow(cell, last, xp.asarray(draw(T, B, I)))
    jacobians = step_jacobians(cell, xp.asarray(draw(T, B, I)))
    for t in 1, 20, T:
        expected = np.einsum("bij,bi->bj", jacobians.product(T, t), jacobians.states[-1])
        np.testing.assert_allclose(flow.norms["state"][t - 1], np.linalg.norm(expected, axis=-1), rtol=1e-9)
    assert type(flow.norms["state"]) is np.ndarray
    assert not list(cell.parameters()) and not any(x.requires_grad for _, x in cell.named_members())
    frozen = make(nn.GRUCell)
    for p in frozen.parameters():
        p.requires_grad = False
    assert gradient_flow(frozen, last, draw(T, B, I)).norms["z"].any()
    assert not any(p.requires_grad for p in frozen.parameters())


def test_what_it_looks_at_is_not_disturbed():
    model = nn.Recurrent(nn.Zoneout(make(nn.GRUCell), 0.3, rng=5), rng=0)
    for training in True, False:
        model.train(training)
        for p in model.parameters():
            p.grad = tg.tensor(np.ones(p.shape))
        weights, draws = model.state_dict(), model.layers[0]["forward"].rng.bit_generator.state
        first = gradient_flow(model, last, draw(T, B, I))
        assert model.layers[0]["forward"].rng.bit_generator.state == draws
        assert model.training is training and all((p.grad.data == 1).all() for p in model.parameters())
        assert all((value == weights[name]).all() for name, value in model.state_dict().items())
        again = gradient_flow(model, last, draw(T, B, I))
        assert all((again.norms[name] == norms).all() for name, norms in first.norms.items())


def test_what_is_not_finite():
    cell = make(nn.RNNCell, 1, 2, nonlinearity="linear")
    with pytest.raises(FloatingPointError, match="loss: it is nan"):
        gradient_flow(cell, last, np.full((3, 1, 1), np.nan))
    exploding = nn.RNNCell(1, 2, bias=False, nonlinearity="linear", rng=0)
    exploding.weight_hh.data = np.array([[1e20, -1e20], [1e20, 1e20]], np.float32)
    with np.errstate(all="ignore"):
        norms = gradient_flow(
            exploding, lambda c, xs: tg.scan(c, xs)[0][-1].sum(), np.zeros((5, 1, 1), np.float32)
        ).norms
    assert np.isinf(norms["state"][:3]).all() and np.isfinite(norms["state"][3:]).all()


def test_a_loss_that_depends_on_nothing():
    def loss(cell, xs):
        tg.scan(cell, xs)
        return tg.tensor(1.0)

    assert not gradient_flow(make(nn.GRUCell), loss, draw(T, B, I)).norms["z"].any()


class Sums(nn.Module):
    def __init__(self):
        self.w = nn.Parameter(np.ones(2))


WRONG = {
    "no module": (lambda: gradient_flow(tg.tanh, last, 1), TypeError, "model: expected a module"),
    "no loss": (lambda: gradient_flow(make(nn.RNNCell), 3, 1), TypeError, "loss: expected a function"),
    "no number": (lambda: gradient_flow(make(nn.RNNCell), lambda m, b: 0.5, 1), TypeError, "loss: expected a tensor"),
    "many": (lambda: gradient_flow(make(nn.RNNCell), lambda m, xs: tg.scan(m, xs)[0], draw(T, B, I)), ValueError,
             "a single number.*its mean"),
    "no cells": (lambda: gradient_flow(Sums(), lambda m, b: m.w.sum(), 1), ValueError, "Sums: none of its cells"),
    "another's": (lambda: gradient_flow(make(nn.RNNCell), lambda m, xs: last(make(nn.RNNCell), xs), draw(T, B, I)),
                  ValueError, "none of its cells"),
    "checkpointed": (lambda: gradient_flow(nn.Recurrent(make(nn.RNNCell), checkpoint=True), last, draw(T, B, I)),
                     ValueError, "checkpoint=False"),
    "a name": (lambda: gradient_flow(make(nn.RNNCell), last, draw(T, B, I)).rms("f"), KeyError, r"'state'.*got 'f'"),
    "two batches": (lambda: gradient_flow(make(nn.RNNCell), lambda m, xs: last(m, xs) + last(m, xs[:, :1]),
                                          draw(T, B, I)), ValueError, r"different batches, of \[1, 3\]"),
    "every": (lambda: FlowRecorder(last, 1, every=0), ValueError, "every"),
    "nothing": (lambda: FlowRecorder(last, 1).plot(), ValueError, "nothing has been recorded"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name):
    call, kind, words = WRONG[name]
    with pytest.raises(kind, match=words):
        call()


def trained(callbacks):
    model = nn.Recurrent(nn.Zoneout(make(nn.GRUCell), 0.3, rng=5))
    options = {"batch_size": 3, "batch_axis": 1, "epochs": 5, "rng": 0, "progress": False, "callbacks": callbacks}
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    history = tg.fit(model, lambda m, b: last(m, b[0]) / 9, (draw(T, 6, I),), optimizer=optimizer, **options)
    return model.state_dict(), history.column("loss")


def test_a_run_that_is_recorded_is_the_same_run():
    recorder = FlowRecorder(lambda m, b: last(m, b), draw(T, B, I), every=2)
    (weights, losses), (alone, expected) = trained([recorder]), trained([])
    assert losses == expected and all((weights[name] == alone[name]).all() for name in alone)
    assert recorder.calls == [1, 3, 5] and len(recorder.flows) == 3
    assert repr(recorder) == "FlowRecorder: 3 flows, from call 1 to 5"
    by_hand, model = FlowRecorder(last, draw(T, B, I)), make(nn.RNNCell)
    for _ in range(2):
        by_hand(model)
    assert by_hand.calls == [1, 2] and by_hand.flows[0].loss == by_hand.flows[1].loss


def test_figures():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    flow = gradient_flow(make(nn.LSTMCell), last, draw(T, B, I))
    assert flow.plot(ax) is ax and ax.get_yscale() == "log"
    assert [line.get_label() for line in ax.lines] == ["state[0]", "state[1]", "i", "f", "g", "o"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), flow.rms("state[1]"))
    assert len(flow.plot(names="f").lines[0].get_xdata()) == T - 1  # at the first step c is 0, and so is that of f
    wide = gradient_flow(nn.LSTM(I, H, 3, rng=0, dtype=np.float64), last, draw(T, B, I))
    assert len(wide.plot().lines) == 6
    recorder = FlowRecorder(last, draw(T, B, I))
    for scale in 1.0, 0.0:
        cell = make(nn.RNNCell)
        cell.weight_hh.data = scale * cell.weight_hh.data
        recorder(cell)
    ax = recorder.plot()
    image = ax.collections[0].get_array()
    np.testing.assert_allclose(image[0], np.log10(recorder.flows[0].rms("state")))
    assert image.mask[1, :-1].all() and not image.mask[1, -1]  # without a way back there is no gradient: no colour
    plt.close("all")


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"tinygrad_rnn\[analysis\]"):
        gradient_flow(make(nn.RNNCell), last, draw(T, B, I)).plot()
