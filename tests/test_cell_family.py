"""The other cells, each against a transcription of its equations in plain NumPy, for one sequence, without a batch."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
from test_cells import B, H, I, T, check_gradient, check_second_order, check_values, draw, float64, leaves, states_of, σ

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.lstm import LSTM1997Cell, LSTMVariantCell, MinimalGatedCell
from tinygrad_rnn.nn.timescales import ClockworkCell, LeakyCell
from tinygrad_rnn.nn.watch import watching

VARIANTS = LSTMVariantCell.VARIANTS


# The equations


def rnn(φ):
    def step(w, x, h):
        h = φ(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"])
        return h, h

    return step


def gru(reset_after, update_gate):
    def step(w, x, h):
        (w_ir, w_iz, w_in), (w_hr, w_hz, w_hn) = np.split(w["weight_ih"], 3), np.split(w["weight_hh"], 3)
        (b_ir, b_iz, b_in), (b_hr, b_hz, b_hn) = np.split(w["bias_ih"], 3), np.split(w["bias_hh"], 3)
        r = σ(w_ir @ x + b_ir + w_hr @ h + b_hr)
        z = σ(w_iz @ x + b_iz + w_hz @ h + b_hz)
        n = np.tanh(w_in @ x + b_in + (r * (w_hn @ h + b_hn) if reset_after else w_hn @ (r * h) + b_hn))
        h = (1 - z) * n + z * h if update_gate == "keeps" else z * n + (1 - z) * h
        return h, h

    return step


def minimal(w, x, h):
    (w_if, w_in), (w_hf, w_hn) = np.split(w["weight_ih"], 2), np.split(w["weight_hh"], 2)
    (b_if, b_in), (b_hf, b_hn) = np.split(w["bias_ih"], 2), np.split(w["bias_hh"], 2)
    f = σ(w_if @ x + b_if + w_hf @ h + b_hf)
    n = np.tanh(w_in @ x + b_in + w_hn @ (f * h) + b_hn)
    h = (1 - f) * h + f * n
    return h, h


def same(a):
    return a


def lstm(rows="ifgo", coupled=False, σ_g=σ, σ_c=np.tanh, σ_h=np.tanh):
    """The equations of Greff et al. (2017), and those of the lectures; what is in w is used."""

    def step(w, x, state):
        h, c, *gates = state
        net = w["weight_ih"] @ x + w["weight_hh"] @ h
        if "bias_ih" in w:
            net = net + w["bias_ih"] + w["bias_hh"]
        nets = dict(zip(rows, np.split(net, len(rows))))
        present = rows.replace("g", "")
        if gates:
            R = np.split(w["weight_gg"], len(present))
            last = gates[0]
            for k, gate in enumerate(present):
                nets[gate] = nets[gate] + R[k] @ last
        p = {gate: w.get(f"peepholes.{gate}", 0) for gate in "ifo"}
        i = σ_g(nets["i"] + p["i"] * c) if "i" in rows else np.ones(H)
        f = 1 - i if coupled else σ_g(nets["f"] + p["f"] * c) if "f" in rows else np.ones(H)
        c = f * c + i * σ_c(nets["g"])
        o = σ_g(nets["o"] + p["o"] * c) if "o" in rows else np.ones(H)
        h = o * σ_h(c)
        if "weight_hr" in w:
            h = w["weight_hr"] @ h
        values = {"i": i, "f": f, "o": o}
        return h, (h, c, np.concatenate([values[gate] for gate in present])) if gates else (h, c)

    return step


def lstm1997(blocks, cells, output_gate=True):
    """Appendix A of the paper, cell v of block j at a time."""

    def step(w, x, state):
        u, s = state
        n = blocks * cells
        net = w["weight_ih"] @ x
        if "weight_hh" in w:
            net = net + w["weight_hh"] @ u
        bias = np.concatenate([w.get("bias_cells", np.zeros(n)), w.get("bias_gates", np.zeros(len(net) - n))])
        net = net + bias
        i = [σ(net[n + j]) for j in range(blocks)]
        o = [σ(net[n + blocks + j]) if output_gate else 1.0 for j in range(blocks)]
        new_s, h = [], []
        for j in range(blocks):
            for v in range(cells):
                k = j * cells + v
                g = 4 / (1 + np.exp(-net[k])) - 2
                new_s.append(s[k] + i[j] * g)
                h.append(o[j] * (2 / (1 + np.exp(-new_s[-1])) - 1))
        return np.array(h), (np.array(h + i + (o if output_gate else [])), np.array(new_s))

    return step


def leaky(leak=None, recurrent=True, φ=np.tanh):
    def step(w, x, h):
        a = w.get("leak", leak)
        net = w["weight_ih"] @ x + w["bias_ih"]
        if recurrent:
            net = net + w["weight_hh"] @ h + w["bias_hh"]
        h = (1 - a) * h + a * φ(net)
        return h, h

    return step


def clockwork(periods):
    """Module after module, each with the block of the matrix that it has."""

    def step(w, x, state):
        h, clock = state
        k, new = H // len(periods), []
        for m, period in enumerate(periods):
            rows = slice(m * k, (m + 1) * k)
            if round(clock[0].real) % period:
                new.append(h[rows])
            else:
                net = w["weight_ih"][rows] @ x + w["weight_hh"][rows, m * k :] @ h[m * k :]
                new.append(np.tanh(net + w["bias_ih"][rows] + w["bias_hh"][rows]))
        h, ends = np.concatenate(new), clock[0].real + 1 == np.lcm.reduce(periods)
        return h, (h, clock + 1 - (np.lcm.reduce(periods) if ends else 0))

    return step


def softsign(x):
    return x / (1 + abs(x))


FAMILY = {
    "elman sigmoid": (lambda **k: nn.RNNCell(I, H, nonlinearity="sigmoid", **k), rnn(σ)),
    "elman linear": (lambda **k: nn.RNNCell(I, H, nonlinearity="linear", **k), rnn(same)),
    "elman sin": (lambda **k: nn.RNNCell(I, H, nonlinearity=tg.sin, **k), rnn(np.sin)),
    "gru after, overwrites": (lambda **k: nn.GRUCell(I, H, update_gate="overwrites", **k), gru(True, "overwrites")),
    "gru before, overwrites": (lambda **k: nn.GRUCell(I, H, reset_after=False, update_gate="overwrites", **k),
                               gru(False, "overwrites")),
    "gru after, keeps": (lambda **k: nn.GRUCell(I, H, update_gate="keeps", **k), gru(True, "keeps")),
    "gru before, keeps": (lambda **k: nn.GRUCell(I, H, reset_after=False, update_gate="keeps", **k),
                          gru(False, "keeps")),
    "minimal": (lambda **k: MinimalGatedCell(I, H, **k), minimal),
    "lstm projected": (lambda **k: nn.LSTMCell(I, H, proj_size=3, **k), lstm()),
    "lstm forget bias": (lambda **k: nn.LSTMCell(I, H, forget_bias=1.0, forget_identity=True, **k), lstm()),
    "V": (lambda **k: LSTMVariantCell(I, H, **VARIANTS["V"], **k), lstm()),
    "NIG": (lambda **k: LSTMVariantCell(I, H, **VARIANTS["NIG"], **k), lstm("fgo")),
    "NFG": (lambda **k: LSTMVariantCell(I, H, **VARIANTS["NFG"], **k), lstm("igo")),
    "NOG": (lambda **k: LSTMVariantCell(I, H, **VARIANTS["NOG"], **k), lstm("ifg")),
    "NIAF": (lambda **k: LSTMVariantCell(I, H, **VARIANTS["NIAF"], **k), lstm(σ_c=same)),
    "NOAF": (lambda **k: LSTMVariantCell(I, H, **VARIANTS["NOAF"], **k), lstm(σ_h=same)),
    "CIFG": (lambda **k: LSTMVariantCell(I, H, **VARIANTS["CIFG"], **k), lstm("igo", coupled=True)),
    "NP": (lambda **k: LSTMVariantCell(I, H, **VARIANTS["NP"], **k), lstm()),
    "FGR": (lambda **k: LSTMVariantCell(I, H, **VARIANTS["FGR"], **k), lstm()),
    "FGR, CIFG, projected": (lambda **k: LSTMVariantCell(I, H, gate_recurrence=True, coupled=True, proj_size=2, **k),
                             lstm("igo", coupled=True)),
    "no gates, no bias": (lambda **k: LSTMVariantCell(I, H, bias=False, without="ifo", **k), lstm("g")),
    "other activations": (lambda **k: LSTMVariantCell(I, H, gate_activation=lambda a: 0.5 + 0.4 * tg.sin(a),
                                                      input_activation="sigmoid", output_activation=tg.sin, **k),
                          lstm(σ_g=lambda a: 0.5 + 0.4 * np.sin(a), σ_c=σ, σ_h=np.sin)),
    "1997": (lambda **k: LSTM1997Cell(I, 2, 2, **k), lstm1997(2, 2)),
    "1997 without output gates": (lambda **k: LSTM1997Cell(I, 3, 1, output_gate=False, **k), lstm1997(3, 1, False)),
    "1997 with biases of gates": (lambda **k: LSTM1997Cell(I, 2, 3, "gates", input_gate_bias=-1, **k), lstm1997(2, 3)),
    "1997 with little": (lambda **k: LSTM1997Cell(I, 2, 2, False, output_gate=False, recurrent=False, **k),
                         lstm1997(2, 2, False)),
    "leaky": (lambda **k: LeakyCell(I, H, 0.3, **k), leaky(0.3)),
    "leaky, each": (lambda **k: LeakyCell(I, H, [0.1, 0.2, 0.5, 1.0], **k), leaky()),
    "leaky, trained": (lambda dtype=np.float32, **k: LeakyCell(I, H, nn.Parameter(np.full(H, 0.4, dtype)), dtype=dtype,
                                                               **k), leaky()),
    "leaky, alone": (lambda **k: LeakyCell(I, H, 0.3, nonlinearity="sigmoid", recurrent=False, **k),
                     leaky(0.3, False, σ)),
}  # fmt: skip
family = pytest.mark.parametrize(("make", "equations"), FAMILY.values(), ids=FAMILY)
every_cell = pytest.mark.parametrize("make", [make for make, _ in FAMILY.values()] + [
    lambda **k: ClockworkCell(I, H, (1, 2), **k)], ids=[*FAMILY, "clockwork"])  # fmt: skip
PERIODS = [(1, 2), (1, 2, 3, 4), (1,), (2, 2), (2, 3)]


@family
def test_a_scan_is_the_equations(make, equations):
    cell = float64(make)
    check_values(cell, equations, states_of(cell))


@family
def test_the_gradient_of_the_loop_is_that_of_the_equations(make, equations):
    cell = float64(make)
    check_gradient(cell, equations, states_of(cell))


@family
def test_second_order_of_the_loop(make, equations):
    cell = float64(make)
    check_second_order(cell, states_of(cell))


@pytest.mark.parametrize("periods", PERIODS)
def test_clockwork(periods):
    cell = float64(lambda **k: ClockworkCell(I, H, periods, **k))
    state = draw(B, H), np.array([[0], [1], [5]]) % np.lcm.reduce(periods)  # each sequence has its own
    check_values(cell, clockwork(periods), state)
    check_gradient(cell, clockwork(periods), state)
    h, clock = state  # which jumps: no difference can be taken of it
    tg.check_gradients(lambda xs, h: tg.scan(cell, xs, (h, clock))[0], draw(3, B, I), h, order=2)


def test_what_clockwork_does_not_use_has_no_gradient_and_is_0():
    cell = ClockworkCell(I, H, (1, 2), rng=0)
    below = cell.connected.data == 0
    assert below.sum() == (H // 2) ** 2 and not cell.weight_hh.data[below].any()
    (tg.scan(cell, draw(T, B, I).astype(np.float32))[0] ** 2).sum().backward()
    assert not cell.weight_hh.grad.data[below].any() and cell.weight_hh.grad.data[~below].all()


def test_the_clock_does_not_run_out():
    """It goes round, so it is exact however long the sequence is."""
    cell = ClockworkCell(1, 2, (1, 3), rng=0, dtype=np.float16)
    clock = tg.scan(cell, np.zeros((3001, 1, 1), np.float16))[1][1]
    assert clock.dtype == np.int64 and clock.item() == 3001 % 3


@every_cell
def test_a_cell_runs_on_every_backend_and_stays_float32(make, xp):
    cell, xs = make(rng=0), draw(T, B, I).astype(np.float32)
    expected, last = tg.scan(cell, xs)
    (expected**2).sum().backward()
    grads = [p.grad for p in cell.parameters()]
    cell.zero_grad()
    if xp is not np:
        cell.to("cuda")
    ys, _ = tg.scan(cell, tg.tensor(xp.asarray(xs)))
    (ys**2).sum().backward()
    assert ys.dtype == np.float32 and all(s.dtype == np.float32 for s in leaves(last) if s.dtype.kind == "f")
    np.testing.assert_allclose(ys.numpy(), expected.data, rtol=1e-5, atol=1e-6)
    for p, g in zip(cell.parameters(), grads):
        assert p.grad.device == p.device
        np.testing.assert_allclose(p.grad.numpy(), g.data, rtol=1e-4, atol=1e-5)


@every_cell
@pytest.mark.parametrize(("t", "b"), [(0, B), (T, 0)])
def test_no_steps_and_no_sequences(make, t, b):
    cell = float64(make)
    state = tg.trees.map(
        lambda s: tg.tensor(s.data + 1, requires_grad=s.dtype.kind == "f"), cell.initial_state(np.zeros((b, I)))
    )
    ys, last = tg.scan(cell, np.ones((t, b, I)), state)
    assert ys.shape[:2] == (t, b)
    (ys.sum() + sum(s.sum() for s in leaves(last))).backward()
    assert t or all((s.grad.data == 1).all() for s in leaves(state) if s.requires_grad)
    ys, _ = tg.scan(cell, np.ones((T, I)))  # a sequence without a batch
    np.testing.assert_allclose(ys.data, tg.scan(cell, np.ones((T, 1, I)))[0].data[:, 0], rtol=1e-12)


@every_cell
def test_a_cell_can_be_copied_and_loaded(make):
    cell, xs = make(rng=0, dtype=np.float64), draw(T, B, I)
    other = make(rng=1, dtype=np.float64)
    other.load_state_dict(cell.state_dict())
    for twin in (copy.deepcopy(cell), other):
        np.testing.assert_array_equal(tg.scan(twin, xs)[0].data, tg.scan(cell, xs)[0].data)
    assert repr(cell).startswith(f"{type(cell).__name__}({I}, ")
    assert all(np.array_equal(p.data, q.data) for p, q in zip(make(rng=5).parameters(), make(rng=5).parameters()))


# LSTM and its variants


def test_a_variant_without_options_is_the_lstm():
    for options in ({}, {"proj_size": 3, "forget_bias": 1.0}, {"bias": False}):
        lstm, variant = (kind(I, H, rng=0, **options) for kind in (nn.LSTMCell, LSTMVariantCell))
        for (a, p), (b, q) in zip(lstm.named_parameters(), variant.named_parameters(), strict=True):
            assert a == b and np.array_equal(p.data, q.data)
        xs = draw(T, B, I).astype(np.float32)
        np.testing.assert_array_equal(tg.scan(lstm, xs)[0].data, tg.scan(variant, xs)[0].data)


def test_an_lstm_shows_its_projection():
    assert repr(nn.LSTMCell(I, H, proj_size=3)) == "LSTMCell(2, 4, proj_size=3)"
    assert repr(nn.LSTMCell(I, H, bias=False)) == "LSTMCell(2, 4, bias=False)"


def test_a_projected_lstm_is_torchs():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.LSTM(I, H, proj_size=3, dtype=torch.float64)
    ours = nn.LSTMCell(I, H, proj_size=3, dtype=np.float64)
    ours.load_state_dict({name.removesuffix("_l0"): p.detach().numpy() for name, p in theirs.named_parameters()})
    xs = draw(T, B, I)
    expected, _ = theirs(torch.tensor(xs))
    ys, _ = tg.scan(ours, xs)
    np.testing.assert_allclose(ys.data, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    (expected**3).sum().backward()
    (ys**3).sum().backward()
    for name, p in ours.named_parameters():
        np.testing.assert_allclose(p.grad.data, getattr(theirs, name + "_l0").grad.numpy(), rtol=1e-10, atol=1e-13)


def test_how_a_forget_gate_starts():
    cell = LSTMVariantCell(I, H, without="i", forget_bias=1.5, forget_identity=True, rng=0)  # rows: f, g, o
    assert (cell.bias_ih.data[:H] == 1.5).all() and not cell.bias_hh.data[:H].any() and cell.bias_hh.data[H:].all()
    np.testing.assert_array_equal(cell.weight_hh.data[:H], np.eye(H))
    cell = nn.LSTMCell(I, H, forget_bias=0.0, rng=0)
    total = (cell.bias_ih.data + cell.bias_hh.data).reshape(4, H)
    assert not total[1].any() and total[[0, 2, 3]].all()
    plain = nn.LSTMCell(I, H, rng=0)  # all else is drawn as it would have been
    np.testing.assert_array_equal(cell.weight_hh.data, plain.weight_hh.data)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("meaning", ["keeps", "overwrites"])
def test_update_gates_are_converted_exactly(reset_after, bias, meaning):
    cell = float64(lambda **k: nn.GRUCell(I, H, bias, reset_after, meaning, **k))
    before = cell.state_dict()
    other = {"keeps": "overwrites", "overwrites": "keeps"}[meaning]
    converted, xs = cell.with_update_gate(other), draw(T, B, I)
    assert converted.update_gate == other and cell.update_gate == meaning
    np.testing.assert_allclose(tg.scan(cell, xs)[0].data, tg.scan(converted, xs)[0].data, rtol=0, atol=1e-15)
    again, unchanged = converted.with_update_gate(meaning), cell.with_update_gate(meaning)
    for name, array in before.items():
        for twin in (cell, again, unchanged):
            np.testing.assert_array_equal(twin.state_dict()[name], array)
    assert again.weight_ih is not cell.weight_ih


def test_a_converted_cell_has_no_gradient():
    """That of the cell it was made of is by other weights."""
    cell = nn.GRUCell(I, H, rng=0, dtype=np.float64)
    cell.bias_hh.requires_grad = False
    (tg.scan(cell, draw(T, B, I))[0] ** 2).sum().backward()
    converted = cell.with_update_gate("overwrites")
    assert [p.grad for p in converted.parameters()] == [None] * 4
    assert cell.weight_ih.grad is not None and not converted.bias_hh.requires_grad


def test_weights_for_the_other_update_gate_are_refused(tmp_path):
    for kind in (nn.GRUCell, nn.GRU):
        keeps, overwrites = (kind(I, H, update_gate=meaning, rng=0) for meaning in ("keeps", "overwrites"))
        name = "overwrites" if kind is nn.GRUCell else "overwrites_l0"
        with pytest.raises(ValueError, match=rf"state: does not fit this {kind.__name__}:\n  {name}: missing"):
            overwrites.load_state_dict(keeps.state_dict())
        with pytest.raises(ValueError, match=f"{name}: not in this module"):
            keeps.load_state_dict(overwrites.state_dict())
        tg.save(tmp_path / "gru.npz", overwrites.state_dict())
        overwrites.load_state_dict(tg.load(tmp_path / "gru.npz"))
        assert len(list(overwrites.parameters())) == 4


# The LSTM of 1997

NETS = {  # the experiments of the paper: the cell, its output layer, and how many weights the paper counts
    "1, four blocks": (lambda: (LSTM1997Cell(7, 4, 1, "gates"), nn.Linear(4, 7, bias=False)), 264),
    "1, embedded Reber grammar": (lambda: (LSTM1997Cell(7, 3, 2, "gates"), nn.Linear(6, 7, bias=False)), 276),
    # the output layer of 2a and 2b sees the inputs, too
    "2a, 2b, long lags": (lambda: (LSTM1997Cell(101, 1, 1, False, output_gate=False, recurrent=False),
                                   nn.Linear(101 + 1, 101, bias=False)), 10504),
    "2c, very long lags": (lambda: (LSTM1997Cell(54, 2, 1, False), nn.Linear(2, 2, bias=False)), 364),
    "3, two sequences": (lambda: (LSTM1997Cell(1, 3, 1), nn.Linear(3, 1, bias=False)), 102),
    "4, 5, adding and multiplication": (lambda: (LSTM1997Cell(2, 2, 2), nn.Linear(4, 1)), 93),
    "6a, temporal order": (lambda: (LSTM1997Cell(8, 2, 2), nn.Linear(4, 4)), 156),
    "6b, temporal order of three": (lambda: (LSTM1997Cell(8, 3, 2), nn.Linear(6, 8)), 308),
}  # fmt: skip


@pytest.mark.parametrize(("make", "count"), NETS.values(), ids=NETS)
def test_the_nets_of_1997_have_as_many_weights_as_the_paper_counts(make, count):
    cell, readout = make()
    assert sum(p.size for p in [*cell.parameters(), *readout.parameters()]) == count
    xs = np.ones((2, B, cell.input_size), np.float32)
    ys, _ = tg.scan(cell, xs)
    seen = tg.concatenate([ys, xs], axis=-1) if readout.in_features > ys.shape[-1] else ys
    (readout(seen) ** 2).sum().backward()
    assert all(p.grad.data.any() for p in cell.parameters())


def test_biases_of_gates_for_each_block():
    cell = LSTM1997Cell(I, 2, 2, input_gate_bias=(-3, -6), output_gate_bias=-1, rng=0)
    np.testing.assert_array_equal(cell.bias_gates.data, np.float32([-3, -6, -1, -1]))
    assert abs(cell.weight_hh.data).max() <= 0.1


def test_the_gradient_of_1997_flows_through_the_cells_alone():
    """Truncated: what the gradient is with the fed back values as constants, at every step."""
    whole, truncated = (float64(lambda t=t, **k: LSTM1997Cell(I, 2, 2, truncated=t, **k)) for t in (False, True))
    xs = draw(T, B, I)
    expected, _ = tg.scan(whole, xs)
    ys, _ = tg.scan(truncated, xs)
    np.testing.assert_array_equal(ys.data, expected.data)
    (ys[-1] ** 2).sum().backward()
    fed = [np.zeros((B, 8))]
    state = None
    for x in xs:
        _, state = whole(x, state)
        fed.append(state[0].data)
    s = 0  # the loop once more, its fed back values given
    for x, u in zip(xs, fed):
        net = x @ whole.weight_ih.T + u @ whole.weight_hh.T + tg.concatenate([whole.bias_cells, whole.bias_gates])
        s = s + tg.repeat(tg.sigmoid(net[:, 4:6]), 2, axis=-1) * (4 * tg.sigmoid(net[:, :4]) - 2)
    h = tg.repeat(tg.sigmoid(net[:, 6:]), 2, axis=-1) * (2 * tg.sigmoid(s) - 1)
    (h**2).sum().backward()
    for p, q in zip(truncated.parameters(), whole.parameters()):
        np.testing.assert_allclose(p.grad.data, q.grad.data, rtol=1e-11, atol=1e-14)


# Watching


def test_gates_are_seen_by_who_watches():
    first, second = LSTMVariantCell(I, H, without="o", rng=0), nn.GRUCell(I, H, rng=1)
    xs = tg.tensor(draw(T, B, I).astype(np.float32))
    with watching(first) as seen:
        with watching() as inner, pytest.raises(ValueError, match="features"):
            tg.scan(second, tg.scan(first, xs)[0][..., :1])
        tg.scan(second, xs)
        _, (_, c) = tg.scan(first, xs)
    tg.scan(first, xs)  # nobody watches any more
    assert list(seen) == ["i", "f", "g", "c", "state"]
    assert {len(values) for values in [*seen.values(), *inner.values()]} == {T}
    np.testing.assert_array_equal(seen["c"][-1].data, c.data)
    (gradient,) = tg.gradients(c.sum(), [seen["c"][0]])
    assert gradient.shape == (B, H) and gradient.data.any()


@pytest.mark.parametrize(("make", "names"), [
    (lambda: nn.LSTMCell(I, H), "ifgoc"), (lambda: nn.GRUCell(I, H, reset_after=False), "rzn"),
    (lambda: MinimalGatedCell(I, H), "fn"), (lambda: LSTM1997Cell(I, H), "igso"), (lambda: nn.RNNCell(I, H), ""),
])  # fmt: skip
def test_what_is_seen(make, names):
    cell = make()
    with watching() as seen:
        tg.scan(cell, np.ones((T, B, I), np.float32))
    assert len(seen.pop("state")) == T
    assert "".join(seen) == names and all(x.shape == (B, H) for values in seen.values() for x in values)


# What is wrong is said in words

WRONG = {
    "name": (lambda: LSTMVariantCell(I, H, output_activation="softmax"), "output_activation: expected one of 'tanh'"),
    "gates": (lambda: LSTMVariantCell(I, H, without="x"), "without: expected gates, of 'i', 'f' and 'o', got 'x'"),
    "coupled to nothing": (lambda: LSTMVariantCell(I, H, without="i", coupled=True), "coupled: expected an input gate"),
    "no gates": (lambda: LSTMVariantCell(I, H, without="ifo", gate_recurrence=True), "gate_recurrence: expected gates"),
    "no forget gate": (lambda: LSTMVariantCell(I, H, without="f", forget_bias=1), "forget_bias: expected a forget"),
    "no bias": (lambda: nn.LSTMCell(I, H, bias=False, forget_bias=1), "forget_bias: .* a forget gate with a bias"),
    "not square": (lambda: nn.LSTMCell(I, H, proj_size=2, forget_identity=True), "forget_identity: expected a square"),
    "projection": (lambda: nn.LSTMCell(I, H, proj_size=H), "proj_size: expected less than hidden_size 4, or 0"),
    "state": (lambda: nn.LSTMCell(I, H, proj_size=2)(np.ones((B, I), np.float32), (np.ones((B, H), np.float32),) * 2),
              r"LSTMCell needs \(h, c\), float32 \(3, 2\) and float32 \(3, 4\)"),
    "update gate": (lambda: nn.GRUCell(I, H, update_gate="resets"), "update_gate: expected 'keeps' or 'overwrites'"),
    "meaning": (lambda: nn.GRUCell(I, H).with_update_gate("x"), "update_gate: expected 'keeps' or 'overwrites'"),
    "blocks": (lambda: LSTM1997Cell(I, 0), "blocks: expected a whole number, at least 1, got 0"),
    "biases": (lambda: LSTM1997Cell(I, 1, 1, "cells"), "bias: expected True, False or 'gates', got 'cells'"),
    "bias of no gate": (lambda: LSTM1997Cell(I, 1, output_gate=False, output_gate_bias=-1), "output_gate_bias: "),
    "leak": (lambda: LeakyCell(I, H, 1.5), "leak: expected a number from 0 to 1, or 4 of them, got 1.5"),
    "leaks": (lambda: LeakyCell(I, H, [0.5, 0.1]), "leak: expected a number from 0 to 1, or 4 of them"),
    "periods": (lambda: ClockworkCell(I, H, (2, 1)), r"periods: expected ascending whole numbers from 1, got \(2, 1\)"),
    "no periods": (lambda: ClockworkCell(I, H, ()), "periods: expected ascending"),
    "shares": (lambda: ClockworkCell(I, H, (1, 2, 4)), "hidden_size: expected a multiple of the number of periods, 3"),
    "count": (lambda: ClockworkCell(I, H, (2**13 - 1, 2**13)), "periods: expected .* within 16777216 steps.* 67100672"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert re.search(message, text, re.DOTALL), text


def test_cells_with_named_activations_can_be_pickled():
    cell = LSTMVariantCell(I, H, output_activation="linear", rng=0)
    twin, xs = pickle.loads(pickle.dumps(cell)), np.ones((T, B, I), np.float32)
    np.testing.assert_array_equal(tg.scan(twin, xs)[0].data, tg.scan(cell, xs)[0].data)
