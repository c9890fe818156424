"""The flow of gradients: against back-propagation through time by hand, and undisturbing what it looks at."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.analysis import FlowRecorder, GradientFlow, gradient_flow, step_jacobians

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


def test_a_ratio_compares_each_sequence_with_itself():
    """Of a linear cell h' = a h + ..., whose last state is the loss, it is a^(steps - 1), however long others are."""
    cell, lengths = make(nn.RNNCell, 1, 1, nonlinearity="linear"), [9, 4, 1]
    cell.weight_hh.data = np.array([[0.1]])
    flow = gradient_flow(cell, lambda cell, xs: tg.scan(cell, xs, lengths=lengths)[1].sum(), draw(9, 3, 1))
    np.testing.assert_allclose(flow.ratio("state"), [1e-8, 1e-3, 1], rtol=1e-12)

    def of_outputs(cell, xs):
        ys, _ = tg.scan(cell, xs, lengths=lengths)
        return ys[8, 0, 0] + ys[3, 1, 0]

    flow = gradient_flow(cell, of_outputs, draw(9, 3, 1))
    np.testing.assert_allclose(flow.ratio("state"), [1e-8, 1e-3, np.nan], rtol=1e-12)
    flow = gradient_flow(cell, lambda cell, xs: tg.scan(cell, xs, lengths=lengths)[1].sum(), draw(12, 3, 1))
    assert np.isnan(flow.rms("state")[-1])  # nobody has an input there
    np.testing.assert_allclose(flow.ratio("state"), [1e-8, 1e-3, 1], rtol=1e-12)
    with pytest.raises(KeyError, match="expected one of"):
        flow.ratio("z")


def test_a_loss_at_each_step_hides_what_vanishes():
    cell, xs = make(nn.RNNCell), draw(T, B, I)
    assert gradient_flow(cell, last, xs).ratio("state").max() < 1e-5
    assert gradient_flow(cell, lambda m, xs: (tg.scan(m, xs)[0] ** 2).mean(), xs).ratio("state").min() > 0.05


def test_the_scans_of_others_are_not_counted():
    """Of a cell that is the model, and of one that is in it; and of two scans the second is the second."""
    other, xs = make(nn.GRUCell), draw(T, B, I)

    def loss(model, xs):
        cell = model if isinstance(model, nn.Cell) else model.layers[0]["forward"]
        (_, h), _ = tg.scan(other, xs), tg.scan(nn.Residual(make(nn.RNNCell, I, I)), xs)
        return (tg.scan(cell, xs, h)[0][-1] ** 2).sum()

    assert gradient_flow(make(nn.RNNCell), loss, xs).states == ("state",)
    assert gradient_flow(make(nn.RNN), loss, xs).states == ("layers.0.forward.state",)
    twice = gradient_flow(make(nn.RNNCell), lambda m, xs: loss(m, xs) + loss(m, xs), xs)
    assert twice.states == ("state", "state (2)")


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


class Two(nn.Module):
    """An encoder, and a decoder that starts from where it ended."""

    def __init__(self, kind=nn.RNN):
        self.encoder, self.decoder = make(kind), kind(H, H, rng=1, dtype=np.float64)

    def forward(self, xs):
        ys, state = self.encoder(xs)
        return self.decoder(ys[:5], state)


def test_two_networks_have_names_of_their_own():
    """Those of their weights; and the gradients are what the tape gives for all states of each, by themselves."""
    model, xs = Two(nn.GRU), draw(T, B, I)
    flow = gradient_flow(model, last, xs)
    assert flow.states == ("encoder.layers.0.forward.state", "decoder.layers.0.forward.state")
    assert len(flow.gates) == 6 and sum(flow.share.values()) == pytest.approx(2)
    stacked = nn.GRU(I, H, 2, rng=0, dtype=np.float64)
    for part, layer in (model.encoder, 0), (model.decoder, 1):
        for name, value in part.layers[0]["forward"].state_dict().items():
            getattr(stacked.layers[layer]["forward"], name).data = value
    above = gradient_flow(stacked, last, xs)  # the same two, one above the other: all of time, and no handed-on state
    both = gradient_flow(nn.Sequential(model.encoder, First(), model.decoder), last, xs)
    for i, place in (0, "0"), (1, "2"):
        np.testing.assert_allclose(
            both.norms[f"{place}.layers.0.forward.state"], above.norms[above.states[i]], rtol=1e-12
        )
    assert flow.norms[flow.states[0]].shape == (T, B) and flow.norms[flow.states[1]].shape == (5, B)


class First(nn.Module):
    def forward(self, result):
        return result[0]


def test_a_cell_that_is_run_twice_has_two_entries():
    cell, xs = make(nn.GRUCell), draw(T, B, I)
    flow = gradient_flow(cell, lambda c, xs: last(c, xs) + 2 * last(c, xs[:7, :1]), xs)
    assert flow.states == ("state", "state (2)") and flow.gates == ("r", "z", "n", "r (2)", "z (2)", "n (2)")
    alone = gradient_flow(cell, last, xs), gradient_flow(cell, lambda c, xs: 2 * last(c, xs[:7, :1]), xs)
    for name in "state", "r", "n":
        np.testing.assert_array_equal(flow.norms[name], alone[0].norms[name])
        np.testing.assert_array_equal(flow.norms[f"{name} (2)"], alone[1].norms[name])
        if name != "state":
            assert flow.share[f"{name} (2)"] == pytest.approx(alone[1].share[name])
    lstm = gradient_flow(make(nn.LSTMCell), lambda c, xs: last(c, xs) + last(c, xs), xs)
    assert lstm.states == ("state[0]", "state[1]", "state[0] (2)", "state[1] (2)") and "c (2)" not in lstm.gates


@pytest.mark.parametrize("model", [
    lambda: make(nn.LSTM), lambda: nn.Recurrent(nn.Zoneout(make(nn.LSTMCell), 0.3, rng=0)),
])  # fmt: skip
def test_what_is_a_part_of_the_state_is_no_gate(model):
    """Nor where a mask, or a wrapper, makes another tensor of it: the shares are those of the four gates."""
    flow = gradient_flow(model(), lambda m, xs: (m(xs, lengths=[T, 7, 3])[0] ** 2).mean(), draw(T, B, I))
    assert [name.rpartition(".")[2] for name in flow.gates] == ["i", "f", "g", "o"]
    squares = np.array([np.nansum(flow.norms[name] ** 2) for name in flow.gates])
    np.testing.assert_allclose([*flow.share.values()], squares / squares.sum(), rtol=1e-12)


def test_a_state_of_one_number_for_each_sequence():
    class Sum(nn.Cell):
        def __init__(self):
            self.leak = nn.Parameter(np.array(0.5))

        def initial_state(self, x):
            return tg.tensor(np.zeros(len(x)))

        def step(self, x, state):
            state = self.leak * state + (x.sum(axis=-1) if x.ndim > 1 else x)
            return state, state

    weights = np.array([1.0, -2.0, 3.0])
    flow = gradient_flow(Sum(), lambda c, xs: (tg.scan(c, xs)[0][-1] * weights).sum(), draw(6, B, I))
    np.testing.assert_allclose(flow.norms["state"], 0.5 ** np.arange(5.0, -1, -1)[:, None] * abs(weights))
    numbers = gradient_flow(Sum(), lambda c, xs: (tg.scan(c, xs)[0][-1] * weights).sum(), draw(6, B))
    np.testing.assert_array_equal(numbers.norms["state"], flow.norms["state"])
    alone = gradient_flow(make(nn.RNN), lambda m, xs: (m(xs)[0][-1] ** 2).sum(), draw(T, I))
    assert alone.norms["layers.0.forward.state"].shape == (T, 1)


def test_infinite_gradients_of_a_gate_have_all_of_the_share():
    norms = {"i": np.array([[np.inf], [1.0]]), "f": np.ones((2, 1))}
    with np.errstate(invalid="ignore"):
        share = GradientFlow(0.0, norms, (), ("i", "f")).share
    assert not np.isfinite(share["i"]) and share["f"] == 0


class Sums(nn.Module):
    def __init__(self):
        self.w = nn.Parameter(np.ones(2))


class Ragged(nn.RNNCell):
    """It shows a part of a batch, at some steps only that of one sequence."""

    steps = 0

    def step(self, x, state):
        y, state = super().step(x, state)
        self.steps += 1
        self.watch(part=y if self.steps % 2 else y[:1])
        return y, state


def by_hand(cell, xs):
    state = None
    for x in xs:
        y, state = cell(x, state)
    return last_of([y])


def last_of(ys):
    return (ys[-1] ** 2).sum()


def detached(model, xs):
    return model(xs)[1].data.sum() * next(model.parameters()).sum()


def constant(cell, xs):
    tg.scan(cell, xs)
    return tg.tensor(1.0)


WRONG = {
    "no module": (lambda: gradient_flow(tg.tanh, last, 1), TypeError, "model: expected a module"),
    "no loss": (lambda: gradient_flow(make(nn.RNNCell), 3, 1), TypeError, "loss: expected a function"),
    "a loss with a state": (lambda: gradient_flow(make(nn.RNNCell), lambda net, batch, state: 0, 1), TypeError,
                            r"takes loss\(model, batch\), got loss\(net, batch, state\) \(missing .*'state'\)"),
    "a loss of outputs": (lambda: gradient_flow(make(nn.RNNCell), lambda y: 0, 1), TypeError, r"got loss\(y\)"),
    "no number": (lambda: gradient_flow(make(nn.RNNCell), lambda m, b: 0.5, 1), TypeError, "loss: expected a tensor"),
    "many": (lambda: gradient_flow(make(nn.RNNCell), lambda m, xs: tg.scan(m, xs)[0], draw(T, B, I)), ValueError,
             "a single number.*its mean"),
    "no cells": (lambda: gradient_flow(Sums(), lambda m, b: m.w.sum(), 1), ValueError, "model: Sums has no cells"),
    "another's": (lambda: gradient_flow(make(nn.RNNCell), lambda m, xs: last(make(nn.RNNCell), xs), draw(T, B, I)),
                  ValueError, "loss: it runs no cell of the model"),
    "a loop": (lambda: gradient_flow(make(nn.LSTMCell), by_hand, draw(T, B, I)), ValueError,
               r"no cell of the model by tg.scan.*of a loop over cell\(x, state\) put tg.scan\(cell, xs\)"),
    "detached": (lambda: gradient_flow(make(nn.RNNCell), lambda m, xs: last_of(tg.scan(m, xs)[0].detach()),
                                       draw(T, B, I)), ValueError, "loss: it was not computed.*detached on the way"),
    "read out of what is detached": (lambda: gradient_flow(make(nn.GRU), detached, draw(T, B, I)), ValueError,
                                     "detached on the way"),
    "nothing to do with it": (lambda: gradient_flow(make(nn.GRUCell), constant, draw(T, B, I)), ValueError,
                              "not computed from anything that the cells"),
    "checkpointed": (lambda: gradient_flow(nn.Recurrent(make(nn.RNNCell), checkpoint=True), last, draw(T, B, I)),
                     ValueError, "checkpoint=False"),
    "a name": (lambda: gradient_flow(make(nn.RNNCell), last, draw(T, B, I)).rms("f"), KeyError, r"'state'.*got 'f'"),
    "ragged": (lambda: gradient_flow(Ragged(I, H, rng=0, dtype=np.float64), last, draw(T, B, I)), ValueError,
               r"part: expected as many rows at each step, .*got \[1, 3\]"),
    "loss and batch swapped": (lambda: FlowRecorder(draw(T, B, I), last), TypeError, r"loss: .*loss\(model, batch"),
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
    assert ax.get_ylabel() == "call" and recorder.plot(vmin=-9, vmax=0).collections[0].get_clim() == (-9, 0)
    middles = recorder.plot(shading="gouraud").collections[0].get_coordinates()
    np.testing.assert_array_equal(middles[0], [(t, 1) for t in range(T)])
    assert recorder.plot(shading="nearest").collections[0].get_coordinates().shape == (3, T + 1, 2)
    once = FlowRecorder(last, draw(T, B, I))
    once(make(nn.RNNCell))
    corners = once.plot().collections[0].get_coordinates()
    assert np.ptp(corners[..., 0]) == T and np.ptp(corners[..., 1]) == 1  # a row that is there to be seen
    before = plt.get_fignums()
    with pytest.raises(KeyError, match="expected one of"):
        flow.plot(names=["x"])
    assert plt.get_fignums() == before  # no empty figure is left
    plt.close("all")


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"tinygrad_rnn\[analysis\]"):
        gradient_flow(make(nn.RNNCell), last, draw(T, B, I)).plot()
