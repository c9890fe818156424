"""Layers: against PyTorch's, against each sequence alone, and what they promise of order, causality and shapes."""

from __future__ import annotations

import copy
import pickle
import re
import warnings

import fakecupy
import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import wrappers

T, B, I, H = 5, 3, 2, 4  # noqa: E741
CHUNKS, CHUNK = 12, 25


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def leaves(tree):
    return tg.trees.flatten(tree)[0]


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(a.data), np.asarray(b.data), rtol=tolerance, atol=tolerance)


# PyTorch's ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", range(CHUNKS), ids=lambda n: f"seeds-{n * CHUNK}-to-{(n + 1) * CHUNK - 1}")
def test_values_and_gradients_are_torchs(chunk):
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                one_configuration(torch, seed)
    finally:
        torch.set_num_threads(threads)


def one_configuration(torch, seed):
    rng = np.random.default_rng(seed)
    kind, features, hidden = rng.choice(["RNN", "LSTM", "GRU"]), *rng.integers(1, 5, 2).tolist()
    flip = lambda: bool(rng.integers(2))  # noqa: E731
    keywords = {"num_layers": int(rng.integers(1, 4)), "bias": flip(), "batch_first": flip(), "bidirectional": flip()}
    if kind == "RNN":
        keywords["nonlinearity"] = str(rng.choice(["tanh", "relu"]))
    if kind == "LSTM" and hidden > 1 and flip():
        keywords["proj_size"] = int(rng.integers(1, hidden))
    theirs = getattr(torch.nn, kind)(features, hidden, **keywords, dtype=torch.float64)
    ours = getattr(nn, kind)(features, hidden, **keywords, dtype=np.float64, rng=seed)
    about = f"seed {seed}: {kind}({features}, {hidden}, {keywords})"
    assert {n: p.shape for n, p in ours.state_dict().items()} == {n: p.shape for n, p in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(theirs.state_dict()), about
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.tensor(rng.normal(0, 0.7, tuple(p.shape))))
    ours.load_state_dict(theirs.state_dict())

    time, batch = rng.integers(1, 6, 2).tolist()
    unbatched, packed, given = rng.random() < 0.1, flip(), flip()
    xs = rng.standard_normal((time, features) if unbatched else (time, batch, features))
    xs = xs.swapaxes(0, 1).copy() if keywords["batch_first"] and not unbatched else xs
    rows = keywords["num_layers"] * (1 + keywords["bidirectional"])
    sizes = [keywords.get("proj_size", hidden), hidden][: 1 + (kind == "LSTM")]
    state = [rng.standard_normal((rows, size) if unbatched else (rows, batch, size)) for size in sizes] * given
    lengths = rng.integers(1, time + 1, batch) if packed and not unbatched else None

    x_theirs, x_ours = torch.tensor(xs, requires_grad=True), tg.tensor(xs, requires_grad=True)
    s_theirs, s_ours = [torch.tensor(s, requires_grad=True) for s in state], [tg.tensor(s, True) for s in state]
    as_state = lambda parts: None if not parts else tuple(parts) if kind == "LSTM" else parts[0]  # noqa: E731
    if lengths is None:
        out, last = theirs(x_theirs, as_state(s_theirs))
    else:
        first = keywords["batch_first"]
        p = torch.nn.utils.rnn.pack_padded_sequence(x_theirs, torch.tensor(lengths), first, enforce_sorted=False)
        p, last = theirs(p, as_state(s_theirs))
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(p, first, total_length=time)
    expected = [out, *(last if kind == "LSTM" else [last])]
    out, last = ours(x_ours, as_state(s_ours), lengths=lengths)
    found = [out, *(last if kind == "LSTM" else [last])]
    assert len(found) == len(expected)
    losses = []
    for parts in (found, expected):
        weights = [np.random.default_rng(i).standard_normal(tuple(p.shape)) for i, p in enumerate(parts)]
        weights = weights if parts is found else map(torch.tensor, weights)
        losses.append(sum((w * p * p).sum() for w, p in zip(weights, parts)))
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-12, atol=1e-12, err_msg=about)
    for loss in losses:
        loss.backward()
    pairs = [(x_ours, x_theirs), *zip(s_ours, s_theirs)]
    pairs += [(p, theirs.get_parameter(name)) for name, p in ours.named_parameters()]
    for a, b in pairs:
        np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-10, atol=1e-10, err_msg=about)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_weights_go_both_ways_and_have_torchs_names_as_attributes(kind):
    torch = pytest.importorskip("torch")
    ours = getattr(nn, kind)(I, H, 2, bidirectional=True, rng=0)
    theirs = getattr(torch.nn, kind)(I, H, 2, bidirectional=True)
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    x = draw(T, B, I).astype(np.float32)
    np.testing.assert_allclose(ours(x)[0].data, theirs(torch.tensor(x))[0].detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(ours.weight_hh_l1_reverse.data, theirs.weight_hh_l1_reverse.detach().numpy())
    weight = nn.Parameter(np.zeros_like(ours.weight_ih_l0.data))
    ours.weight_ih_l0 = weight
    assert ours.weight_ih_l0 is weight and weight in list(ours.parameters())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name in ("weight_ih_l2", "weight_xx_l0", "bias_ih"):
        with pytest.raises(AttributeError, match=f"'{kind}' object has no attribute '{name}'"):
            getattr(ours, name)
    with pytest.raises(AttributeError, match="bias_ih_l0"):
        _ = getattr(nn, kind)(I, H, bias=False).bias_ih_l0


def test_names_of_weights_inside_another_module():
    class Tagger(nn.Module):
        def __init__(self):
            self.body = nn.LSTM(I, H, bidirectional=True, rng=0)
            self.heads = [nn.Linear(2 * H, 2, rng=1)]

    names = list(Tagger().state_dict())
    assert names[:2] == ["body.weight_ih_l0", "body.weight_hh_l0"] and names[-1] == "heads.0.bias"
    assert "body.bias_hh_l0_reverse" in names and len(names) == 10


def test_copies_and_pickles():
    model, x = nn.GRU(I, H, 2, bidirectional=True, rng=0), draw(T, B, I).astype(np.float32)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other(x)[0].data, model(x)[0].data)
        other.weight_ih_l0.data = 0 * other.weight_ih_l0.data
        assert (other(x)[0].data != model(x)[0].data).any()


def test_a_gru_whose_reset_is_before_the_product():
    model, x = nn.GRU(I, H, reset_after=False, rng=0), draw(T, B, I).astype(np.float32)
    cell = nn.GRUCell(I, H, reset_after=False, rng=0)
    np.testing.assert_array_equal(model(x)[0].data, tg.scan(cell, x)[0].data)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_all_states_of_an_lstm(batch_first, bidirectional):
    model = nn.LSTM(I, H, 2, batch_first=batch_first, bidirectional=bidirectional, rng=0, dtype=np.float64)
    x = draw(*((B, T) if batch_first else (T, B)), I)
    out, (h, c), (every_h, every_c) = model(x, states=True)
    n = 4 if bidirectional else 2
    assert every_h.shape == every_c.shape == (n, *x.shape[:2], H)
    by_time = np.moveaxis(every_c.data, 2 if batch_first else 1, 0)
    hs = np.moveaxis(every_h.data, 2 if batch_first else 1, 0)
    for i in range(n):
        backward = bidirectional and i % 2
        np.testing.assert_array_equal(by_time[0 if backward else -1, i], c.data[i])
        np.testing.assert_array_equal(hs[0 if backward else -1, i], h.data[i])
    top = every_h.data[2:] if bidirectional else every_h.data[1:]
    np.testing.assert_array_equal(np.concatenate(list(top), axis=-1), out.data)


def test_dropout_is_between_layers_and_only_in_training():
    x = draw(T, B, I).astype(np.float32)
    plain, model = nn.LSTM(I, H, 2, rng=0), nn.LSTM(I, H, 2, dropout=0.5, rng=0)
    assert (model(x)[0].data != plain(x)[0].data).any()
    np.testing.assert_array_equal(model.eval()(x)[0].data, plain(x)[0].data)
    first, again = (nn.LSTM(I, H, 2, dropout=0.5, rng=7)(x)[0].data for _ in range(2))
    np.testing.assert_array_equal(first, again)
    model.train()
    np.testing.assert_array_equal(model(x)[1][0].data[0], plain(x)[1][0].data[0])  # the first layer sees all
    with pytest.warns(UserWarning, match="dropout: it acts between layers, and there is only one"):
        nn.GRU(I, H, dropout=0.5)


# Any cells ------------------------------------------------------------------------------------------------------------


class MinimalGatedCell(nn.Cell):
    """Written by a user."""

    def __init__(self, input_size, hidden_size, rng=None):
        self.input_size, self.state_size = input_size, hidden_size
        rng = np.random.default_rng(rng)
        self.forget = nn.Linear(input_size + hidden_size, hidden_size, rng=rng, dtype=np.float64)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size, rng=rng, dtype=np.float64)

    def step(self, x, h):
        f = tg.sigmoid(self.forget(tg.concatenate([x, h], axis=-1)))
        n = tg.tanh(self.candidate(tg.concatenate([x, f * h], axis=-1)))
        h = (1 - f) * h + f * n
        return h, h


def lstm(*sizes, seed=0):
    return nn.LSTMCell(*sizes, rng=seed, dtype=np.float64)


def gru(*sizes, seed=0):
    return nn.GRUCell(*sizes, rng=seed, dtype=np.float64)


def mixed(**options):
    """Layers of three kinds and sizes, in both directions."""
    there = [lstm(I, 3), gru(8, 4, seed=1), MinimalGatedCell(7, 2, rng=2)]
    back = [nn.RNNCell(I, 5, rng=3, dtype=np.float64), lstm(8, 3, seed=4), gru(7, 6, seed=5)]
    return nn.Recurrent(there, bidirectional=back, **options)


def test_layers_of_any_kinds_and_sizes():
    model, x = mixed(), draw(T, B, I)
    out, state = model(x)
    assert out.shape == (T, B, 8) and [len(pair) for pair in state] == [2, 2, 2]
    xs = x
    for layer, (s, t) in zip(model.layers, state):
        there, back = tg.scan(layer["forward"], xs), tg.scan(layer["backward"], xs[::-1])
        xs = np.concatenate([there[0].data, back[0].data[::-1]], axis=-1)
        for a, b in zip(leaves((s, t)), leaves((there[1], back[1])), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    np.testing.assert_array_equal(out.data, xs)
    tg.check_gradients(lambda x: mixed()(x), draw(3, 2, I))


def test_a_cell_that_takes_any_input_fits_anywhere():
    class Sum(nn.Cell):
        state_size = 3

        def step(self, x, h):
            h = h + x.sum(axis=-1, keepdims=True)
            return h, h

    out, _ = nn.Recurrent([Sum(), gru(3, 3), Sum()], residual=True)(draw(T, B, 7))
    assert out.shape == (T, B, 3)
    with pytest.raises(ValueError, match="layer 2, forward: GRUCell: expected input_size 3"):
        nn.Recurrent([Sum(), gru(3, 3), gru(4, 2)])


def test_no_state_is_zeros_and_states_are_fed_back():
    model = nn.Recurrent([lstm(I, 3), gru(3, 4)])
    x = draw(2 * T, B, I)
    out, state = model(x)
    zeros = [(np.zeros((B, 3)), np.zeros((B, 3))), np.zeros((B, 4))]
    for given in (zeros, [None, zeros[1]], tuple(zeros)):
        np.testing.assert_array_equal(model(x, given)[0].data, out.data)
    first, carried = model(x[:T])
    second, end = model(x[T:], carried)
    np.testing.assert_array_equal(np.concatenate([first.data, second.data]), out.data)
    for a, b in zip(leaves(end), leaves(state), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    network = nn.LSTM(I, H, 2, bidirectional=True, rng=0)
    x = x.astype(np.float32)
    given = tuple(np.zeros((4, B, H), np.float32) for _ in range(2))
    np.testing.assert_array_equal(network(x)[0].data, network(x, given)[0].data)


@pytest.mark.parametrize("residual", [False, "dense"])
def test_a_padded_batch_is_its_sequences_one_by_one(residual):
    there, back = [lstm(I, 3), gru(5 if not residual else 7, 2)], [gru(I, 2, seed=3), lstm(5 if not residual else 7, 4)]
    model = nn.Recurrent(there, bidirectional=back, residual=residual)
    lengths, x = [3, 0, 5], tg.tensor(draw(T, B, I), requires_grad=True)
    out, state = model(x, lengths=lengths)
    w = draw(*out.shape)
    (w * out * out).sum().backward()
    grads = [p.grad.data for p in (x, *model.parameters())]
    model.zero_grad()
    x.grad = None
    loss = 0
    for b, n in enumerate(lengths):
        alone, last = model(x[:n, b : b + 1])
        close(alone, out[:n, b : b + 1])
        assert not out.data[n:, b].any()
        for one, of_batch in zip(leaves(last), leaves(state), strict=True):
            close(one, of_batch[b : b + 1])
        loss = loss + (w[:n, b : b + 1] * alone * alone).sum()
    loss.backward()
    for a, p in zip(grads, (x, *model.parameters()), strict=True):
        close(a, p.grad)
    assert not grads[0][3:, 0].any() and not grads[0][:, 1].any()


def test_packed_streams_in_both_directions():
    model, x = mixed(), draw(6, 1, I)
    reset = np.array([[True], [False], [True], [False], [False], [True]])
    out, _ = model(x, reset=reset)
    close(out, np.concatenate([model(x[a:b])[0].data for a, b in ((0, 2), (2, 5), (5, 6))]))


def test_batch_first_is_a_matter_of_layout():
    there, x = mixed(), draw(T, B, I)
    mask = np.random.default_rng(0).random((T, B)) < 0.7
    reset = np.random.default_rng(1).random((T, B)) < 0.3
    out, state, every = there(x, mask=mask, reset=reset, states=True)
    model = mixed(batch_first=True)
    out_2, state_2, every_2 = model(x.swapaxes(0, 1), mask=mask.T, reset=reset.T, states=True)
    np.testing.assert_array_equal(out.data, out_2.data.swapaxes(0, 1))
    for a, b in zip(leaves(state), leaves(state_2), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    for a, b in zip(leaves(every), leaves(every_2), strict=True):
        np.testing.assert_array_equal(a.data, b.data.swapaxes(0, 1))
    lengths = [1, 5, 2]
    a, b = there(x, lengths=lengths)[0], model(x.swapaxes(0, 1), lengths=lengths)[0]
    np.testing.assert_array_equal(a.data, b.data.swapaxes(0, 1))


def test_residual_layers():
    cells, x = [gru(I, 4), lstm(4, 4), gru(4, 4, seed=2)], draw(T, B, I)
    out, _ = nn.Recurrent(cells, residual=True)(x)
    first = tg.scan(cells[0], x)[0]
    second = first + tg.scan(cells[1], first)[0]
    close(out, second + tg.scan(cells[2], second)[0])
    for p in [*cells[1].parameters(), *cells[2].parameters()]:
        p.data = 0 * p.data
    for dropout in (0.0, 0.9):  # a layer of zeros is the identity, and nothing is dropped beside it
        close(nn.Recurrent(cells, residual=True, dropout=dropout)(x)[0], first)


def test_dense_layers():
    cells, x = [gru(I, 4), lstm(I + 4, 3), gru(I + 7, 5)], draw(T, B, I)
    out, _ = nn.Recurrent(cells, residual="dense")(x)
    first = tg.scan(cells[0], x)[0]
    second = tg.scan(cells[1], tg.concatenate([x, first], axis=-1))[0]
    close(out, tg.scan(cells[2], tg.concatenate([x, first, second], axis=-1))[0])


def test_learned_states():
    model = nn.Recurrent([lstm(I, 3), gru(3, 4)], learned_state=True)
    x, first = draw(T, B, I), [leaf for layer in model.layers for leaf in leaves(layer["forward"].first)]
    plain = nn.Recurrent([lstm(I, 3), gru(3, 4)])
    np.testing.assert_array_equal(model(x)[0].data, plain(x)[0].data)  # zeros, at first
    rng = np.random.default_rng(3)
    for p in first:
        p.data = rng.standard_normal(p.shape)
    assert set(first) < set(model.parameters())
    a, b, c = (np.tile(p.data, (B, 1)) for p in first)
    close(model(x)[0], plain(x, [(a, b), c])[0])
    given = [(a + 1, b - 1), c * 2]
    close(model(x, given)[0], plain(x, given)[0])
    reset = np.zeros((T, B), bool)
    reset[2] = True
    close(model(x, given, reset=reset)[0][2:], plain(x[2:], [(a, b), c])[0])

    def f(*values):
        for layer, parts in zip(model.layers, (values[:2], values[2])):
            layer["forward"].first = parts
        return model(x, lengths=[5, 0, 2])

    tg.check_gradients(f, *[p.data for p in first])


def test_learned_states_within_wrappers():
    cell = wrappers.VariationalDropout(lstm(I, 3), 0.5, rng=0)
    model = nn.Recurrent([cell, gru(3, 3)], learned_state=True)
    learned = model.layers[0]["forward"].cell
    assert isinstance(learned, nn.LearnedState) and isinstance(cell.cell, nn.LSTMCell)
    model(draw(T, B, I))[0].sum().backward()
    assert all(p.grad.data.any() for p in learned.first)


def test_nothing_is_drawn_before_there_is_an_input():
    cell = wrappers.Zoneout(gru(I, 3), 0.5, rng=0)
    before = cell.rng.bit_generator.state
    model = nn.Recurrent([cell, gru(3, 3)])
    assert cell.rng.bit_generator.state == before and cell.training and model.training


def test_ones_own_cell_in_two_layers_both_ways_with_lengths_and_zoneout():
    """Everything else comes with the step."""

    def cell(size, seed):
        return wrappers.Zoneout(MinimalGatedCell(size, H, rng=seed), 0.3, rng=seed)

    def model():
        return nn.Recurrent([cell(I, 0), cell(2 * H, 1)], bidirectional=[cell(I, 2), cell(2 * H, 3)], dropout=0.2)

    x, lengths = draw(T, B, I), [5, 0, 3]
    one, two = (m(x, lengths=lengths) for m in (model(), model().eval()))
    for out, state in (one, two):
        assert out.shape == (T, B, 2 * H) and len(state) == 2
        assert not out.data[3:, 2].any() and not out.data[:, 1].any() and out.data[:3, 2].any(axis=-1).all()
    assert (one[0].data != two[0].data).any()
    deterministic = model().eval()
    for b, n in enumerate(lengths):
        close(deterministic(x[:n, b : b + 1])[0], two[0][:n, b : b + 1])
    tg.check_gradients(lambda x: deterministic(x, lengths=lengths), x)
    one[0].sum().backward()


# Less memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    {}, {"lengths": [3, 0, 5]}, {"mask": True}, {"reset": True}, {"mask": True, "reset": True, "states": True},
], ids=["plain", "lengths", "mask", "reset", "all"])  # fmt: skip
@pytest.mark.parametrize("kind", ["Recurrent", "LSTM", "GRU"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("checkpoint", [True, 1, 3])
def test_checkpointed_networks_are_the_networks(checkpoint, batch_first, kind, options):
    swap = (lambda a: a.swapaxes(0, 1)) if batch_first else lambda a: a
    flags = np.random.default_rng(2).random((T, B)) < 0.5
    options = {name: swap(flags) if name in ("mask", "reset") else value for name, value in options.items()}
    x, results = tg.tensor(swap(draw(T, B, I)), requires_grad=True), []
    for given in (False, checkpoint):
        if kind == "Recurrent":
            net = mixed(batch_first=batch_first, dropout=0.3, learned_state=True, rng=5, checkpoint=given)
            for i, layer in enumerate(net.layers):
                layer["forward"] = wrappers.Zoneout(layer["forward"], 0.3, rng=i)
        else:
            net = getattr(nn, kind)(I, H, 2, batch_first=batch_first, dropout=0.3, bidirectional=True,
                                        dtype=np.float64, residual=True, learned_state=True, rng=5,
                                        checkpoint=given)  # fmt: skip
        outputs = [y for y in leaves(net(x, **options)) if y.requires_grad]
        loss = sum((draw(*y.shape, seed=i) * y * y).sum() for i, y in enumerate(outputs))
        wanted = [x, *net.parameters()]
        first = tg.gradients(loss, wanted, create_graph=True)
        second = tg.gradients(sum((g * g).sum() for g in first), wanted)
        results.append([*outputs, *first, *second, tg.tensor(net.dropout.rng.random(3))])
    for a, b in zip(*results, strict=True):
        close(a, b)


def test_checkpointed_networks_keep_less():
    x, kept = draw(400, 1, I).astype(np.float32), []
    for checkpoint in (False, True):
        model = nn.LSTM(I, H, 2, bidirectional=True, rng=0, checkpoint=checkpoint, compiled=False)
        out, _ = model(x)
        kept.append(len(tg.tape(out)))
    assert kept[1] < kept[0] / 50
    assert "checkpoint=True" in repr(nn.LSTM(I, H, checkpoint=True))


# What PyTorch's networks do not have ----------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [True, "dense"])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_torchs_networks_with_ways_around_their_layers(kind, residual, bidirectional):
    net = getattr(nn, kind)(I, H, 3, bidirectional=bidirectional, residual=residual, rng=0, dtype=np.float64)
    there = [layer["forward"] for layer in net.layers]
    back = [layer["backward"] for layer in net.layers] if bidirectional else False
    x = draw(T, B, I)
    close(net(x, lengths=[5, 2, 3])[0], nn.Recurrent(there, back, residual)(x, lengths=[5, 2, 3])[0])
    width = (1 + bidirectional) * H
    assert net.weight_ih_l2.shape[1] == (width if residual is True else I + 2 * width)


def test_torchs_networks_with_learned_states():
    net = nn.LSTM(I, H, 2, bidirectional=True, learned_state=True, rng=0, dtype=np.float64)
    plain = nn.LSTM(I, H, 2, bidirectional=True, rng=0, dtype=np.float64)
    weights = net.state_dict()
    learned = [name for name in weights if name not in plain.state_dict()]
    assert learned == [f"{s}0_l{i}{end}" for i in range(2) for end in ("", "_reverse") for s in "hc"]
    for i, name in enumerate(learned):
        weights[name] = draw(H, seed=i)
    net.load_state_dict(weights)
    h0, c0 = (np.stack([np.tile(weights[name], (B, 1)) for name in learned[i::2]]) for i in range(2))
    x = draw(T, B, I)
    close(net(x)[0], plain(x, (h0, c0))[0])
    assert net.weight_hh_l1_reverse is net.layers[1]["backward"].cell.weight_hh
    assert list(nn.GRU(I, H, learned_state=True).state_dict())[-1] == "h0_l0"
    assert net.c0_l1_reverse is net.layers[1]["backward"].first[1] and not hasattr(plain, "c0_l1_reverse")
    for model in (net, plain):  # where it would be a weight that nothing uses
        with pytest.raises(AttributeError, match=r"^LSTM: h0_l0: learned_state says whether there is one; to give it "
                                                 r"other values: model\.h0_l0\.data = array$"):  # fmt: skip
            model.h0_l0 = nn.Parameter(np.ones(H))


@pytest.mark.parametrize("batch_first", [False, True])
def test_padding_holds_what_is_asked_for(batch_first):
    swap = (lambda a: a.swapaxes(0, 1)) if batch_first else lambda a: a
    x, lengths = draw(T, B, I), [3, 0, 5]
    mask = np.arange(T)[:, None] < lengths
    for net in (
        mixed(batch_first=batch_first),
        nn.GRU(I, H, 3, residual=True, batch_first=batch_first, dtype=np.float64),
    ):
        plain, padded = (
            swap(net(swap(x), lengths=lengths, **keywords)[0].data) for keywords in ({}, {"pad_value": -1})
        )
        np.testing.assert_array_equal(padded, np.where(mask[..., None], plain, -1))


def test_what_is_carried_to_the_next_window():
    x = draw(T, B, I)
    for net in (nn.Recurrent([lstm(I, 3), gru(3, 4)]), nn.GRU(I, H, 2, dtype=np.float64)):
        _, state, every = net(x, states=True)
        assert net.carried(state) is state
        for a, b in zip(leaves(net.carried(every, T - 1)), leaves(state), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    net = mixed()
    _, state = net(x)
    assert net.carried(state) == [(there, None) for there, _ in state] == net.carried(net.carried(state))
    assert net.carried(None) is None
    net = nn.LSTM(I, H, 2, bidirectional=True, dtype=np.float64, rng=0)
    _, (h, c), (hs, cs) = net(x, states=True)
    for got, last in zip(net.carried((h, c)), (h, c)):
        np.testing.assert_array_equal(got.data[::2], last.data[::2])
        assert not got.data[1::2].any()
    np.testing.assert_array_equal(net.carried((hs, cs), 2)[1].data[::2], cs.data[::2, 2])


def test_a_warning_names_the_line_that_asked_for_it():
    for make in (lambda: nn.GRU(I, H, dropout=0.5), lambda: nn.Recurrent(gru(I, 3), dropout=0.5)):
        with pytest.warns(UserWarning, match="dropout: it acts between layers, and there is only one") as caught:
            make()
        assert caught[0].filename == __file__


def test_a_weight_that_nothing_would_use():
    model = nn.RNN(I, H, bias=False, rng=0)
    for name in ("bias_ih_l0", "weight_ih_l1", "weight_hh_l0_reverse", "weight_hr_l0"):
        with pytest.raises(AttributeError) as caught:
            setattr(model, name, nn.Parameter(np.ones(H)))
        assert str(caught.value) == (f"RNN: {name}: there is no such weight in it, and nothing would use it: bias, "
                                     "num_layers, bidirectional and proj_size say which there are")  # fmt: skip
    assert len(list(model.parameters())) == 2


# What the lectures say ------------------------------------------------------------------------------------------------


def test_layer_by_layer_or_step_by_step_is_the_same():
    cells, x = [lstm(I, 3), gru(3, 4), MinimalGatedCell(4, 2, rng=2)], draw(T, B, I)
    out, last = nn.Recurrent(cells)(x)

    def step(x, states):
        after = []
        for cell, s in zip(cells, states):
            x, s = cell.step(x, s)
            after.append(s)
        return x, after

    by_time, last_by_time = tg.scan(step, x, [(np.zeros((B, 3)),) * 2, np.zeros((B, 4)), np.zeros((B, 2))])
    close(out, by_time, 1e-15)
    for a, b in zip(leaves(last), leaves(last_by_time), strict=True):
        close(a, b, 1e-15)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_only_both_directions_see_the_future(bidirectional):
    """So a network with both cannot be a language model: its output at t has seen x(t + 1)."""
    model = nn.GRU(I, H, 2, bidirectional=bidirectional, rng=0, dtype=np.float64)
    x = tg.tensor(draw(T, 1, I), requires_grad=True)
    out, _ = model(x)
    for t in range(T):
        g = abs(tg.gradients(out[t].sum(), x, retain_graph=True).data).sum(axis=(1, 2))
        assert (g[: t + 1] > 0).all()
        assert (g[t + 1 :] > 0).all() if bidirectional else not g[t + 1 :].any()


def test_a_reversed_input_brings_the_first_words_near():
    """From words in to words out, n of each: the first is seen n steps before it is wanted, and reversed, one."""
    n, cell = 6, nn.RNNCell(1, 1, nonlinearity="linear", bias=False)
    cell.weight_ih.data, cell.weight_hh.data = np.ones((1, 1), np.float32), np.full((1, 1), 0.5, np.float32)
    x = tg.tensor(np.ones((n, 1, 1), np.float32), requires_grad=True)
    padding = np.zeros((1, 1, 1), np.float32)

    def lag(words):
        out, _ = tg.scan(cell, tg.concatenate([words, padding]))
        return -np.log2(tg.gradients(out[n].sum(), x).data[0].item())  # each step halves it

    assert lag(x) == n and lag(x[::-1]) == 1


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_any_number_of_steps_with_the_same_weights(kind):
    model = getattr(nn, kind)(I, H, rng=0)
    x, before = draw(40, 1, I).astype(np.float32), model.state_dict()
    whole = model(x)[0].data
    for steps in (0, 1, 2, 17, 40):
        np.testing.assert_allclose(model(x[:steps])[0].data, whole[:steps], atol=1e-6)
    assert before.keys() == model.state_dict().keys()


def test_five_ways_from_sequence_to_sequence():
    model, read = nn.GRU(I, H, rng=0), nn.Linear(H, I, rng=1)
    xs = draw(T, B, I).astype(np.float32)
    one_to_one, _ = model(xs[:1])
    assert read(one_to_one[0]).shape == (B, I)
    many_to_one, h = model(xs)
    assert read(many_to_one[-1]).shape == read(h[0]).shape == (B, I)
    aligned, _ = model(xs)
    assert read(aligned).shape == (T, B, I)

    def write(h, x, steps):
        """Each output is the next input."""
        words = []
        for _ in range(steps):
            out, h = model(x, h)
            x = read(out)
            words.append(x)
        return tg.concatenate(words)

    one_to_many = write(None, xs[:1], 7)
    assert one_to_many.shape == (7, B, I)
    _, h = nn.GRU(I, H, rng=2)(xs)
    translated = write(h, np.zeros((1, B, I), np.float32), 4)
    assert translated.shape == (4, B, I)
    translated.sum().backward()
    assert all(p.grad.data.any() for p in (*model.parameters(), *read.parameters()))


# Odd shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(("t", "b"), [(0, B), (T, 0), (0, 0), (1, 1)])
def test_no_steps_and_no_sequences(kind, t, b):
    model = getattr(nn, kind)(I, H, 2, bidirectional=True, rng=0)
    sizes = range(2 if kind == "LSTM" else 1)
    h0 = [tg.tensor(np.full((4, b, H), 0.5, np.float32), requires_grad=True) for _ in sizes]
    out, last = model(np.ones((t, b, I), np.float32), tuple(h0) if kind == "LSTM" else h0[0], lengths=[t] * b)
    assert out.shape == (t, b, 2 * H) and all(s.shape == (4, b, H) for s in leaves(last))
    sum(s.sum() for s in leaves(last)).backward()
    if t == 0:
        for a, s in zip(h0, leaves(last)):
            np.testing.assert_array_equal(a.data, s.data)
            assert (a.grad.data == 1).all()


def test_one_sequence_without_a_batch():
    for first in (False, True):
        model, x = nn.LSTM(I, H, 2, bidirectional=True, batch_first=first, rng=0), draw(T, I).astype(np.float32)
        state = tuple(draw(4, H, seed=s).astype(np.float32) for s in (1, 2))
        out, (h, c), (every_h, _) = model(x, state, states=True)
        assert out.shape == (T, 2 * H) and h.shape == c.shape == (4, H) and every_h.shape == (4, T, H)
        batch, _ = nn.LSTM(I, H, 2, bidirectional=True, rng=0)(x[:, None], tuple(s[:, None] for s in state))
        np.testing.assert_allclose(out.data, batch.data[:, 0], atol=1e-6)


def test_layers_on_every_backend(xp):
    model, x = nn.LSTM(I, H, 2, bidirectional=True, rng=0), draw(T, B, I).astype(np.float32)
    expected, _ = model(x, lengths=[5, 0, 2])
    if xp is not np:
        model.to("cuda")
    assert {p.device for p in model.parameters()} == {"cpu" if xp is np else "cuda:0"}
    out, (h, c) = model(tg.tensor(xp.asarray(x)), lengths=[5, 0, 2])
    np.testing.assert_allclose(out.numpy(), expected.data, atol=1e-5)
    model(tg.tensor(xp.asarray(x)), (h, c))[0].sum().backward()
    assert all(p.grad.device == p.device for p in model.parameters())


def test_how_layers_are_shown():
    assert repr(nn.GRU(I, H, 2, batch_first=True)).startswith("GRU(\n  2, 4, batch_first=True\n  layers.0.forward: ")
    assert "residual='dense'" in repr(nn.Recurrent([gru(I, 3), gru(5, 2)], residual="dense"))


def test_anomaly_names_layer_and_step():
    model, x = nn.RNN(I, H, 2, "relu", rng=0), np.ones((T, B, I), np.float32)
    model.weight_ih_l1.data = np.full((H, H), 1e38, np.float32)
    wanted = pytest.raises(
        tg.AnomalyError, match=r"layer 1 forward.*step 0 of RNNCell|step 0 of RNNCell.*layer 1 forward"
    )
    with np.errstate(over="ignore"), tg.anomaly(), wanted:
        model(100 * x)


# What is wrong is said in words ---------------------------------------------------------------------------------------

X = np.ones((T, B, I), np.float32)
LSTM, GRU = nn.LSTM(I, H, 2, rng=0), nn.GRU(I, H, 2, rng=0)
BOTH = nn.LSTM(I, H, 2, bidirectional=True, batch_first=True, rng=0)
STACK = nn.Recurrent([nn.LSTMCell(I, 3, rng=0), nn.GRUCell(3, 4, rng=1)])


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


WRONG = {
    "features": (lambda: LSTM(zeros(T, B, 7)), ValueError,
                 r"LSTMCell: xs: expected 2 features on the last axis of .*\(5, 3, 7\)\nin layer 0, forward, of LSTM"),
    "features, batch first": (lambda: BOTH(zeros(B, T, 7)), ValueError,
                              r"in layer 0, forward, of LSTM, of which x is \(batch, time, features\)"),
    "one axis": (lambda: LSTM(zeros(I)), TypeError, r"LSTM: x: expected \(time, batch, features\), got float32 \(2,\)"),
    "no array": (lambda: LSTM([[1.0, 2.0]]), TypeError, r"LSTM: x: expected \(time, batch, features\), got \[\[1.0"),
    "dtype": (lambda: LSTM(X.astype(float)), TypeError,
              r"expected float32, as the cell's weights are; it is .*got float64 .*astype\('float32'\)"),
    "integers": (lambda: GRU(X.astype(int)), TypeError, "expected float32"),
    "h without c": (lambda: LSTM(X, zeros(2, B, H)), tg.StateError,
                    r"^LSTM: state: needs \(h0, c0\), got float32 \(2, 3, 4\)$"),
    "three states": (lambda: LSTM(X, (zeros(2, B, H),) * 3), tg.StateError, r"LSTM: state: needs \(h0, c0\), got \["),
    "h and c": (lambda: GRU(X, (zeros(2, B, H),) * 2), tg.StateError, r"GRU: h0: expected \(2, 3, 4\), .* got \["),
    "batch of h0": (lambda: GRU(X, zeros(2, 9, H)), ValueError,
                    r"GRU: h0: expected \(2, 3, 4\), \(layers · directions, batch, features\), .* \(2, 9, 4\)"),
    "layers of h0": (lambda: GRU(X, zeros(1, B, H)), ValueError, r"h0: expected \(2, 3, 4\), .* \(1, 3, 4\)"),
    "batch first h0": (lambda: BOTH(zeros(B, T, I), (zeros(B, 4, H),) * 2), ValueError,
                       r"LSTM: h0: expected \(4, 3, 4\), .*batch_first or not; got float32 \(3, 4, 4\)"),
    "c0": (lambda: LSTM(X, (zeros(2, B, H), zeros(2, B, 5))), ValueError, r"LSTM: c0: expected \(2, 3, 4\)"),
    "c0, projected": (lambda: nn.LSTM(I, H, proj_size=2)(X, (zeros(1, B, 2),) * 2), ValueError,
                      r"LSTM: c0: expected \(1, 3, 4\), .* got float32 \(1, 3, 2\)"),
    "dtype of h0": (lambda: GRU(X, zeros(2, B, H, dtype=float)), ValueError,
                    r"GRUCell: state: expected float32 \(3, 4\), got float64 \(3, 4\)"),
    "a number": (lambda: GRU(X, 0.0), ValueError, r"GRU: h0: expected \(2, 3, 4\), .* got 0.0"),
    "too long": (lambda: LSTM(X, lengths=[6, 5, 5]), ValueError, r"lengths: expected numbers from 0 to 5.* 6 at \[0\]"),
    "negative": (lambda: LSTM(X, lengths=[0, -5, 5]), ValueError, r"-5 at \[1\]"),
    "fractions": (lambda: LSTM(X, lengths=[0.5, 1, 2]), ValueError, "lengths: expected 3 integers"),
    "lengths of the batch": (lambda: BOTH(zeros(B, T, I), lengths=[1] * T), ValueError, "3 integers, .* 5 steps"),
    "mask": (lambda: LSTM(X, mask=np.ones((B, T), bool)), ValueError,
             r"mask: expected booleans \(time, batch\), \(5, 3\) .* pass mask.T"),
    "mask, batch first": (lambda: BOTH(zeros(B, T, I), mask=np.ones((T, B), bool)), ValueError,
                          r"mask: expected booleans \(batch, time\), \(3, 5\) .*got bool \(5, 3\).* pass mask.T"),
    "lengths without a batch": (lambda: LSTM(X[:, 0], lengths=[5, 5]), ValueError, "no batch axis"),
    "no units": (lambda: nn.LSTM(I, 0), ValueError, "hidden_size: expected a whole number, at least 1, got 0"),
    "negative units": (lambda: nn.GRU(I, -4), ValueError, "hidden_size: expected .* -4"),
    "negative features": (lambda: nn.RNN(-1, 4), ValueError, "input_size"),
    "no layers": (lambda: nn.GRU(I, H, 0), ValueError, "^num_layers: expected a whole number, at least 1, got 0$"),
    "dropout 1": (lambda: nn.GRU(I, H, 2, dropout=1.0), ValueError, r"p: expected a probability in \[0, 1\)"),
    "dropout -1": (lambda: STACK.__class__([gru(I, 3), gru(3, 3)], dropout=-1.0), ValueError, "expected a probability"),
    "projection": (lambda: nn.LSTM(I, H, proj_size=H), ValueError, "proj_size: expected less than hidden_size 4"),
    "negative projection": (lambda: nn.LSTM(I, H, proj_size=-1), ValueError,
                            "proj_size: expected a whole number, at least 0, got -1"),
    "projected GRU": (lambda: nn.GRU(I, H, proj_size=2), TypeError,
                      "GRU: proj_size: only an LSTM has a projection; put a Linear after the layers"),
    "fraction of units": (lambda: nn.LSTM(I, 4.0), ValueError,
                          r"^hidden_size: expected a whole number, at least 1, got 4\.0$"),
    "fraction of layers": (lambda: nn.RNN(I, H, 1.5), ValueError,
                           r"^num_layers: expected a whole number, at least 1, got 1\.5$"),
    "two directions": (lambda: nn.RNN(I, H, bidirectional=2), ValueError,
                       "^bidirectional: expected True or False, got 2$"),
    "checkpoint": (lambda: nn.GRU(I, H, checkpoint=0), ValueError,
                   "^checkpoint: expected a whole number, at least 1, got 0$"),
    "way around": (lambda: nn.GRU(I, H, residual="skip"), ValueError,
                   "^residual: expected False, True or 'dense', got 'skip'$"),
    "nonlinearity": (lambda: nn.RNN(I, H, nonlinearity="elu"), ValueError, "nonlinearity: expected .*got 'elu'"),
    "weights": (lambda: LSTM.load_state_dict(GRU.state_dict()), ValueError, r"weight_ih_l0: expected .* \(16, 2\)"),
    "no cell": (lambda: nn.Recurrent([gru(I, 3), nn.Linear(3, 3)]), TypeError,
                r"cells: expected a Cell, or a list of them, got Linear.* at \[1\]"),
    "no cells": (lambda: nn.Recurrent([]), ValueError, "cells: expected at least one cell, got none"),
    "how it is run": (lambda: nn.LSTM(I, H, compiled="fast"), ValueError,
                      "^compiled: expected one of 'auto', True, False, 'numpy', 'numba', got 'fast'$"),
    "bidirectional": (lambda: nn.Recurrent(gru(I, 3), bidirectional=True), ValueError,
                      "bidirectional: expected the cells that run backward"),
    "too few backward": (lambda: nn.Recurrent([gru(I, 3), gru(6, 3)], bidirectional=gru(I, 3)), ValueError,
                         "bidirectional: expected 2 cells, one for each layer, got 1"),
    "sizes": (lambda: nn.Recurrent([gru(I, 3), lstm(4, 5)]), ValueError,
              "layer 1, forward: LSTMCell: expected input_size 3, as it gets that many features, got 4"),
    "sizes backward": (lambda: nn.Recurrent([gru(I, 3)], bidirectional=[gru(3, 3)]), ValueError,
                       "layer 0, backward: GRUCell: expected input_size 2"),
    "sizes dense": (lambda: nn.Recurrent([gru(I, 3), gru(3, 4)], residual="dense"), ValueError,
                    "layer 1, forward: GRUCell: expected input_size 5"),
    "sizes residual": (lambda: nn.Recurrent([gru(I, 3), gru(3, 4)], residual=True), ValueError,
                       "layer 1: residual: expected 3 features of its output, as of its input, got 4"),
    "residual": (lambda: nn.Recurrent(gru(I, 3), residual="skip"), ValueError,
                 "residual: expected False, True or 'dense', got 'skip'"),
    "states": (lambda: STACK(X, [zeros(B, 4)]), tg.StateError,
               "Recurrent: state: expected a list with the state of each layer, 2 in all"),
    "a state for all": (lambda: STACK(X, zeros(2, B, 4)), ValueError, "Recurrent: state: expected a list"),
    "state of a layer": (lambda: STACK(X, [None, zeros(B, 3)]), ValueError,
                         r"GRUCell: state: expected float32 \(3, 4\), got float32 \(3, 3\)\nin layer 1, forward"),
    "one of a pair": (lambda: mixed()(X.astype(float), [None, zeros(B, 4), None]), tg.StateError,
                      r"state\[1\]: expected a pair of states, \(forward, backward\), got float32 \(3, 4\)"),
    "layout": (lambda: STACK(X, [None, zeros(T, 4)]), ValueError, r"if yours is \(batch, time, features\)"),
    "learned state": (lambda: nn.LearnedState(type("Any", (nn.Cell,), {"state_size": 3})()), ValueError,
                      "LearnedState: Any: set its input_size"),
    "learned masks": (lambda: nn.LearnedState(wrappers.VariationalDropout(gru(I, 3), 0.5)), ValueError,
                      r"VariationalDropout remembers more .*: put it around, VariationalDropout\(LearnedState\(cell\)"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert re.search(message, text, re.DOTALL), text


def test_weights_and_inputs_on_two_devices():
    with fakecupy.installed() as cupy:
        x = tg.tensor(cupy.asarray(X))
        with pytest.raises(tg.DeviceError, match=r"LSTMCell: xs: expected it on 'cpu', .* move one of them"):
            LSTM(x)
        with pytest.raises(ValueError, match=r"GRUCell: state: expected .*, got float32 \(3, 4\) on cuda:0"):
            GRU(X, cupy.asarray(zeros(2, B, H)))
