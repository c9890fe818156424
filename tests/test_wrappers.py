"""Wrappers of cells: against their equations in plain NumPy, whole loops differentiated, and what is random in them."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, trees
from tinygrad_rnn.nn.watch import watching
from tinygrad_rnn.nn.wrappers import (
    Dense,
    Dilated,
    Highway,
    LayerNormalized,
    RecurrentDropout,
    Residual,
    TimeSkip,
    VariationalDropout,
    Wrapper,
    Zoneout,
)
from tinygrad_rnn.ops.checkpoint import checkpoint

T, B, H = 7, 2, 3  # steps, sequences, features and units


def σ(x):
    return 1 / (1 + np.exp(-x))


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


class OwnCell(nn.Cell):
    """A cell with a dict for a state, whose output is no part of it."""

    def __init__(self, rng=None):
        self.input_size, self.state_size = H, {"slow": H, "fast": H}
        self.layer = nn.Linear(2 * H, H, rng=rng, dtype=np.float64)

    def step(self, x, state):
        fast = tg.tanh(self.layer(tg.concatenate([x, state["fast"]], axis=-1)) + 0.3 * state["slow"])
        return fast * x, {"slow": 0.9 * state["slow"] + fast, "fast": fast}


def own(w):
    """The same in NumPy."""

    def step(x, s):
        fast = np.concatenate([x, s["fast"]], -1) @ w["layer.weight"].T + w["layer.bias"] + 0.3 * s["slow"]
        fast = np.tanh(fast)
        return fast * x, {"slow": 0.9 * s["slow"] + fast, "fast": fast}

    return step


def lstm(w, of_input=lambda a: a, of_state=lambda a: a, read=lambda h: h):
    def step(x, s):
        h, c = s
        a = of_input(x @ w["weight_ih"].T + w["bias_ih"]) + of_state(read(h) @ w["weight_hh"].T + w["bias_hh"])
        i, f, g, o = np.split(a, 4, -1)
        c = σ(f) * c + σ(i) * np.tanh(g)
        h = σ(o) * np.tanh(c)
        return h, (h, c)

    return step


def make_lstm():
    return nn.LSTMCell(H, H, rng=0, dtype=np.float64)


CELLS = {"lstm": (make_lstm, lstm), "own": (lambda: OwnCell(rng=0), own)}
each_cell = pytest.mark.parametrize("kind", CELLS)
P = {"lstm": (0.2, 0.6), "own": {"slow": 0.2, "fast": 0.6}}

WRAPPERS = {
    "timeskip": lambda cell, kind: TimeSkip(cell, 3, rng=1),
    "dilated": lambda cell, kind: Dilated(cell, 3),
    "residual": lambda cell, kind: Residual(cell),
    "highway": lambda cell, kind: Highway(cell, rng=1),
    "dense": lambda cell, kind: Dense(cell),
    "zoneout": lambda cell, kind: Zoneout(cell, 0.4, rng=1),
    "zoneout-tree": lambda cell, kind: Zoneout(cell, P[kind], rng=1),
    "recurrent-dropout": lambda cell, kind: RecurrentDropout(cell, 0.4, rng=1),
    "variational": lambda cell, kind: VariationalDropout(cell, 0.3, 0.4, 0.5, rng=1),
    "variational-tree": lambda cell, kind: VariationalDropout(cell, state=P[kind], rng=1),
    "normalized": lambda cell, kind: LayerNormalized(cell),
    "nested": lambda cell, kind: Zoneout(Dilated(VariationalDropout(Residual(cell), 0.3, 0.4, rng=1), 2), 0.3, rng=2),
}
each_wrapper = pytest.mark.parametrize("name", WRAPPERS)


def made(name, kind="lstm"):
    """A wrapped cell, with weights that are no special case."""
    cell, rng = WRAPPERS[name](CELLS[kind][0](), kind), np.random.default_rng(0)
    for p in cell.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape)
    return cell


def reseed(cell, seed=5):
    """As if it had just been made with this seed."""
    for module in cell.modules():
        if hasattr(module, "rng"):
            module.rng = np.random.default_rng(seed)
    return cell


def inner_weights(cell):
    """The weights of the innermost cell, and those of the wrapper."""
    state = cell.state_dict()
    inner = {k.removeprefix("cell."): v for k, v in state.items() if k.startswith("cell.")}
    return inner, {k: v for k, v in state.items() if not k.startswith("cell.")}


def start(cell):
    """A state that is not zero. Masks stay what they are, only not quite."""
    rng = np.random.default_rng(2)
    return trees.map(lambda s: s.data + 0.1 * rng.standard_normal(s.shape), cell.initial_state(np.zeros((B, H))))


def run(step, xs, state):
    ys = []
    for x in xs:
        y, state = step(x, state)
        ys.append(y)
    return np.stack(ys), state


def assert_close(tree, expected, tolerance=1e-12):
    for a, b in zip(trees.flatten(tree)[0], trees.flatten(expected)[0], strict=True):
        np.testing.assert_allclose(getattr(a, "data", a), b, rtol=tolerance, atol=tolerance)


# The equations -------------------------------------------------------------------------------------------------------


def normalized(w, name, eps=1e-5):
    def norm(a):
        return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + eps) * w[f"{name}.weight"] + w[
            f"{name}.bias"
        ]

    return norm


def in_numpy(name, kind, cell):
    """step(x, state) of the wrapped cell: with the draws of seed 5, in the same order."""
    w, own_w = inner_weights(cell)
    plain, rng = CELLS[kind][1](w), np.random.default_rng(5)
    leaf_p = P[kind] if name == "zoneout-tree" else trees.map(lambda _: 0.4, P[kind])

    def uniform(like):
        return rng.random(like.shape, np.float32)

    def by_leaf(weights_name):
        return trees.flatten(P[kind])[1]([own_w[path] for path in own_w if path.startswith(weights_name)])

    if name == "timeskip":
        weights = by_leaf("weights")

        def step(x, state):
            s, (before, older) = state
            y, new = plain(x, trees.map(lambda a, b, m: a + b @ m.T, s, older, weights))
            return y, (new, (s, before))

    elif name == "dilated":

        def step(x, state):
            y, new = plain(x, state[2])
            return y, (new, state[0], state[1])

    elif name in ("residual", "dense", "highway"):

        def step(x, state):
            y, state = plain(x, state)
            if name == "residual":
                return x + y, state
            if name == "dense":
                return np.concatenate([x, y], -1), state
            t = σ(x @ own_w["transform.weight"].T + own_w["transform.bias"])
            return t * y + (1 - t) * x, state

    elif name.startswith("zoneout"):

        def step(x, old):
            y, new = plain(x, old)
            kept = trees.map(lambda a, b, p: np.where(uniform(a) < p, a, b), old, new, leaf_p)
            return (kept[0] if kind == "lstm" else y), kept

    elif name == "recurrent-dropout":

        def step(x, old):
            y, new = plain(x, old)
            kept = trees.map(lambda a, b: a + (uniform(a) >= 0.4) / 0.6 * (b - a), old, new)
            return (kept[0] if kind == "lstm" else y), kept

    elif name.startswith("variational"):

        def step(x, state):
            s, masks = state
            if kind == "lstm" and name == "variational":
                y, s = lstm(w, read=lambda h: h * masks["state"])(x * masks["input"], s)
            else:
                x = x if masks["input"] is None else x * masks["input"]
                y, s = plain(x, trees.map(lambda a, m: a * m, s, masks["state"]))
            return (y if masks["output"] is None else y * masks["output"]), (s, masks)

    elif name == "normalized" and kind == "lstm":
        step = lstm(w, normalized(own_w, "of_input"), normalized(own_w, "of_state"))
    elif name == "normalized":

        def step(x, state):
            return plain(x, {k: normalized(own_w, f"of_state.{k}")(s) for k, s in state.items()})

    return step


@each_cell
@pytest.mark.parametrize("name", [name for name in WRAPPERS if name != "nested"])
def test_a_wrapper_is_its_equations(name, kind):
    cell = made(name, kind)
    xs, state = draw(T, B, H), start(cell)
    ys, last = tg.scan(cell, xs, state)  # checks the state: it draws initial states, which are not used
    reseed(cell)
    ys, last = [], state
    for x in xs:
        y, last = cell.step(x, last)
        ys.append(y)
    expected, expected_last = run(in_numpy(name, kind, cell), xs, state)
    assert_close(tg.stack(ys), expected)
    assert_close(last, expected_last)


@each_cell
@each_wrapper
def test_whole_loops_differentiate(name, kind):
    """By the inputs, the first state, and all weights, to the second order."""
    cell = made(name, kind)
    parameters = list(cell.parameters())

    def loop(xs, state, *weights):
        for p, w in zip(parameters, weights):
            p._data, p.node = w._data, w.node
        return tg.scan(reseed(cell), xs, state)

    tg.check_gradients(loop, draw(4, B, H), start(cell), *[p.data for p in parameters], order=2)


# What every wrapper can do -------------------------------------------------------------------------------------------


@each_wrapper
def test_the_same_seed_makes_the_same_bits(name):
    xs = draw(T, B, H)
    one, other, third = (tg.scan(reseed(made(name), seed), xs) for seed in (5, 5, 6))
    assert_close(one, trees.map(lambda a: a.data, other), 0)
    random = any(hasattr(module, "rng") for module in made(name).modules())
    assert random != np.array_equal(one[0].data, third[0].data)


@each_cell
@each_wrapper
@pytest.mark.parametrize(("t", "b"), [(0, B), (T, 0), (0, 0), (1, 1)])
def test_no_steps_and_no_sequences(name, kind, t, b):
    cell = made(name, kind)
    state = trees.map(lambda s: tg.tensor(s.data, requires_grad=True), cell.initial_state(np.ones((b, H))))
    xs = tg.tensor(np.ones((t, b, H)), requires_grad=True)
    ys, last = tg.scan(cell, xs, state)
    assert ys.shape == (t, b, 2 * H if name == "dense" else H)
    (ys.sum() + sum(s.sum() for s in trees.flatten(last)[0])).backward()
    if t:
        assert xs.grad.shape == xs.shape
    else:
        assert all((s.grad.data == 1).all() for s in trees.flatten(state)[0])


@each_wrapper
def test_a_sequence_without_a_batch(name):
    cell = made(name).eval()
    xs = draw(T, H)
    np.testing.assert_allclose(
        tg.scan(cell, xs)[0].data, tg.scan(cell, xs[:, None])[0].data[:, 0], rtol=1e-12, atol=1e-14
    )


@each_wrapper
def test_float32_stays_and_backends_agree(name, xp):
    cell = WRAPPERS[name](nn.LSTMCell(H, H, rng=0), "lstm")
    xs = draw(T, B, H).astype(np.float32)
    expected, last = tg.scan(reseed(cell), xs)
    assert all(s.dtype == np.float32 for s in [expected, *cell.parameters(), *trees.flatten(last)[0]])
    if xp is not np:
        cell.to("cuda")
    ys, last = tg.scan(reseed(cell), tg.tensor(xp.asarray(xs)))
    assert all(s.device == ys.device for s in trees.flatten(last)[0])
    np.testing.assert_allclose(ys.numpy(), expected.data, rtol=1e-5, atol=1e-6)
    (ys**2).sum().backward()
    assert all(p.grad.device == p.device for p in cell.parameters())


@each_wrapper
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_compute_the_same(name, copied):
    cell = made(name)
    other = copied(cell)
    xs = draw(T, B, H)
    np.testing.assert_array_equal(tg.scan(other, xs)[0].data, tg.scan(cell, xs)[0].data)


@each_cell
@each_wrapper
def test_padding_changes_nothing(name, kind):
    """A state that is held until its sequence ends, or for a while: as if what was left out had not been there."""
    cell, xs = made(name, kind).eval(), draw(T, B, H)
    steps = np.array([[1, 1], [1, 0], [0, 1], [1, 1], [1, 0], [0, 0], [1, 0]], bool)
    ys, last = tg.scan(cell, xs, mask=steps)
    for b in range(B):
        alone, alone_last = tg.scan(cell, xs[steps[:, b], b : b + 1])
        assert_close(ys.data[steps[:, b], b], alone.data[:, 0])
        assert_close(trees.map(lambda s, b=b: s.data[b : b + 1], last), trees.map(lambda s: s.data, alone_last))


def test_masks_of_padded_sequences_stay():
    cell = VariationalDropout(make_lstm(), 0.3, 0.4, 0.5, rng=0)
    state = cell.initial_state(np.zeros((B, H)))
    _, (_, masks) = tg.scan(cell, draw(T, B, H), state, lengths=[T, 2])
    assert_close(masks, trees.map(lambda m: m.data, state[1]), 0)


@each_cell
@pytest.mark.parametrize("name", ["zoneout-tree", "recurrent-dropout", "variational", "variational-tree"])
def test_evaluation_draws_nothing(name, kind):
    cell = made(name, kind)
    xs = draw(T, B, H)
    _, trained = tg.scan(cell, xs)
    before = cell.eval().rng.bit_generator.state
    ys, last = tg.scan(cell, xs)
    assert cell.rng.bit_generator.state == before
    trees.map(lambda a, b: None, trained, last)  # of one form: a state of training may be evaluated with
    if name == "zoneout-tree":
        plain = CELLS[kind][1](inner_weights(cell)[0])

        def expected(x, old):
            y, new = plain(x, old)
            mean = trees.map(lambda a, b, p: p * a + (1 - p) * b, old, new, P[kind])
            return (mean[0] if kind == "lstm" else y), mean
    else:
        expected = CELLS[kind][1](inner_weights(cell)[0])
    expected, _ = run(expected, xs, trees.map(lambda _: np.zeros((B, H)), P[kind]))
    assert_close(ys, expected)


# What is random ------------------------------------------------------------------------------------------------------


class Counter(nn.Cell):
    """Its state is the number of the step, in each of many units, and what it read; its output is its input."""

    state_size = (1000, 1000)

    def step(self, x, state):
        return x, (state[0] + 1, state[0])


def states_of(cell, steps=4, units=1000):
    state, states = cell.initial_state(np.ones((1, units))), []
    for _ in range(steps):
        y, state = cell.step(np.ones((1, units)), state)
        states.append((getattr(y, "data", y), state))
    return states


def test_zoneout_holds_as_often_as_it_should():
    (_, (one, _)), (_, (two, _)), *_ = states_of(Zoneout(Counter(), (0.3, 0.0), rng=0))
    assert set(np.unique(one.data)) == {0, 1}
    assert abs((one.data == 0).mean() - 0.3) < 0.04
    assert abs((two.data == one.data).mean() - 0.3) < 0.04
    assert abs((two.data[one.data == 0] == 0).mean() - 0.3) < 0.08  # drawn anew
    (_, (held, _)), *_ = states_of(Zoneout(Counter(), 1, rng=0))
    assert not held.data.any()


def test_recurrent_dropout_keeps_the_expectation():
    (_, (one, _)), (_, (two, _)), *_, (_, (last, _)) = states_of(RecurrentDropout(Counter(), (0.2, 0.0), rng=0), 30)
    np.testing.assert_allclose(np.unique(one.data), [0, 1.25])
    assert abs((one.data == 0).mean() - 0.2) < 0.04
    assert abs(last.data.mean() - 30) < 0.3
    assert abs((two.data[one.data == 0] == 0).mean() - 0.2) < 0.08


def test_variational_masks_are_drawn_once_a_sequence():
    cell = VariationalDropout(Counter(), input=0.2, state=(0.5, 0.0), output=0.3, rng=0)
    (y, (_, masks)), *others = states_of(cell)
    for p, drawn in (0.2, masks["input"]), (0.5, masks["state"][0]), (0.3, masks["output"]):
        assert drawn.shape == (1, 1000) and drawn.node is None
        np.testing.assert_allclose(np.unique(drawn.data), [0, 1 / (1 - p)])
        assert abs((drawn.data == 0).mean() - p) < 0.05
    assert masks["state"][1] is None
    np.testing.assert_array_equal(y, masks["input"].data * masks["output"].data)
    for other, (_, later) in others:
        np.testing.assert_array_equal(other, y)
        assert all(later[name] is masks[name] for name in masks)
    np.testing.assert_array_equal(others[0][1][0][1].data, masks["state"][0].data)  # the second step reads 1 · mask
    first, second = (cell.initial_state(np.ones((2, 1000)))[1]["input"].data for _ in range(2))
    assert not np.array_equal(first, second) and not np.array_equal(first[0], first[1])


def test_variational_dropout_leaves_what_is_carried_whole():
    """A GRU whose update gate is open for the old state: dropout of what its matrices see does not change h."""
    gru = nn.GRUCell(H, H, rng=0, dtype=np.float64)
    gru.bias_ih.data = np.r_[np.zeros(H), np.full(H, 100.0), np.zeros(H)]
    cell = VariationalDropout(gru, state=0.5, rng=0)
    _, masks = cell.initial_state(np.zeros((B, H)))
    assert (masks["state"].data == 0).any()
    h = draw(B, H)
    np.testing.assert_allclose(cell.step(np.zeros((B, H)), (h, masks))[1][0].data, h, rtol=1e-12)


def test_a_clock_is_not_noise():
    class Clocked(nn.Cell):
        state_size = (H, 1)

        def initial_state(self, x):
            return tg.tensor(np.zeros((*x.shape[:-1], H))), tg.tensor(np.zeros((*x.shape[:-1], 1), int))

        def step(self, x, state):
            return x, (state[0] + x, state[1] + 1)

    for cell in (
        Zoneout(Clocked(), 0.5, rng=0),
        RecurrentDropout(Clocked(), 0.5, rng=0),
        TimeSkip(Clocked(), 2, dtype=np.float64),
        VariationalDropout(Clocked(), state=0.5, rng=0),
        LayerNormalized(Clocked(), dtype=np.float64),
    ):
        _, last = tg.scan(cell, np.ones((T, B, H)))
        clocks = [leaf for leaf in trees.flatten(last)[0] if leaf.dtype.kind == "i"]
        assert (clocks[0].data == T).all()


# Nesting -------------------------------------------------------------------------------------------------------------


def test_wrappers_of_the_state_act_on_the_innermost_cell():
    xs = draw(T, B, H)

    def ys(*cells):
        return [tg.scan(reseed(cell), xs)[0].data for cell in cells]

    np.testing.assert_array_equal(*ys(Zoneout(Dilated(make_lstm(), 2), 0.4), Dilated(Zoneout(make_lstm(), 0.4), 2)))
    np.testing.assert_array_equal(
        *ys(LayerNormalized(Dilated(make_lstm(), 2)), Dilated(LayerNormalized(make_lstm()), 2))
    )
    for make in make_lstm, lambda: OwnCell(rng=0):
        np.testing.assert_array_equal(
            *ys(
                Zoneout(VariationalDropout(make(), state=0.4), 0.3),
                VariationalDropout(Zoneout(make(), 0.3), state=0.4),
            )
        )


def test_what_zoneout_holds_is_not_what_dropout_has_dropped():
    """Held is the state itself, and not its masked reading, whichever wrapper is outside."""
    for cell in (
        Zoneout(VariationalDropout(OwnCell(rng=0), state=0.5, rng=0), 1),
        VariationalDropout(Zoneout(OwnCell(rng=0), 1), state=0.5, rng=0),
    ):
        (inner, masks) = cell.initial_state(np.zeros((B, H)))
        inner = trees.map(lambda s: s.data + draw(*s.shape), inner)
        _, (after, _) = cell.step(draw(B, H), (inner, masks))
        assert_close(after, inner, 0)


@pytest.mark.parametrize("inner", [name for name in WRAPPERS if name != "dense"])
@pytest.mark.parametrize("outer", WRAPPERS)
def test_any_two_nest(outer, inner):
    one = WRAPPERS[inner](make_lstm(), "lstm")
    cell = WRAPPERS[outer](one, "lstm")
    xs = tg.tensor(draw(T, B, H), requires_grad=True)
    ys, last = tg.scan(cell, xs)
    assert np.isfinite(ys.data).all()
    (ys**2).sum().backward()
    assert np.isfinite(xs.grad.data).all()
    assert all(p.grad is not None for p in cell.parameters())
    again, _ = tg.scan(cell, xs, trees.map(lambda s: s.detach(), last))  # the next chunk of it
    assert again.shape == ys.shape
    cell.eval()
    np.testing.assert_array_equal(tg.scan(cell, xs)[0].data, tg.scan(cell, xs)[0].data)


def test_a_skip_over_time_joins_what_was_and_is_read_through_a_mask():
    cell = OwnCell(rng=0)
    for wrapped in (
        TimeSkip(VariationalDropout(Zoneout(cell, 0.3), state=0.5), 2),
        VariationalDropout(Zoneout(TimeSkip(cell, 2), 0.3), state=0.5),
        Zoneout(TimeSkip(VariationalDropout(cell, state=0.5), 2), 0.3),
    ):
        reseed(wrapped)
        for module in wrapped.modules():
            if isinstance(module, TimeSkip):
                for p in module.weights.values():
                    p.data = np.eye(H)
        xs, rng, ys = draw(T, B, H), np.random.default_rng(5), []
        state = wrapped.initial_state(xs[0])
        for x in xs:
            y, state = wrapped.step(x, state)
            ys.append(y.data)
        masks = {leaf: (rng.random((B, H), np.float32) >= 0.5) / 0.5 for leaf in P["own"]}
        rng = np.random.default_rng(5)
        plain = own(cell.state_dict())
        s = older = trees.map(lambda p: np.zeros((B, H)), P["own"])
        for x, y in zip(xs, ys):
            expected, new = plain(x, trees.map(lambda a, b, m: (a + b) * m, s, older, masks))
            np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
            s, older = {leaf: np.where(rng.random((B, H), np.float32) < 0.3, s[leaf], new[leaf]) for leaf in s}, s


def test_a_wrapper_of_ones_own_takes_part():
    class Doubled(nn.Wrapper):
        def initial_state(self, x):
            return self.cell.initial_state(x), tg.tensor(np.zeros(x.shape[:-1]))

        def step(self, x, state):
            y, inner = self.cell.step(2 * x, state[0])
            return y, (inner, state[1] + 1)

    xs = draw(T, B, H)
    _, ((h, _), count) = tg.scan(Zoneout(Doubled(make_lstm()), 1), xs)
    assert not h.data.any() and (count.data == T).all()


def test_gates_can_still_be_watched():
    cell = make_lstm()
    wrapped = Zoneout(Dilated(LayerNormalized(VariationalDropout(cell, 0.2, 0.2, 0.2, rng=0)), 2), 0.2, rng=0)
    for cells in (), (cell,):
        with watching(*cells) as seen:
            tg.scan(wrapped, draw(T, B, H))
        assert len(seen["i"]) == T


def test_they_are_shown_as_they_are_nested():
    cell = VariationalDropout(Zoneout(TimeSkip(Dilated(nn.GRUCell(H, H), 4), 2), 0.1), state=0.5)
    assert [line.strip() for line in repr(cell).splitlines()[:-4]] == [
        "VariationalDropout(", "input=0.0, state=0.5, output=0.0", "cell: Zoneout(", "p=0.1", "cell: TimeSkip(",
        "skip=2", "cell: Dilated(", "dilation=4", "cell: GRUCell(3, 3)",
    ]  # fmt: skip


@each_wrapper
def test_what_was_drawn_is_drawn_again_in_a_checkpoint(name):
    cell, x = made(name), tg.tensor(draw(T, B, H), requires_grad=True)
    state = cell.initial_state(x.data[0])

    def loss(x, state):
        return (tg.scan(cell, x, state)[0] ** 2).sum()

    reseed(cell)
    expected = tg.gradients(loss(x, state), [x, *cell.parameters()])
    reseed(cell)
    generators = [m.rng for m in cell.modules() if hasattr(m, "rng")]
    y = checkpoint(loss, x, state, parameters=cell.parameters(), generators=generators)
    for a, b in zip(tg.gradients(y, [x, *cell.parameters()]), expected):
        np.testing.assert_array_equal(a.data, b.data)


# What a path through time is worth -----------------------------------------------------------------------------------


def linear_cell(w):
    cell = nn.RNNCell(1, 1, bias=False, nonlinearity="linear", dtype=np.float64)
    cell.weight_ih.data, cell.weight_hh.data = np.ones((1, 1)), np.full((1, 1), w)
    return cell


def slopes(cell, lag):
    """How the last output depends on each input, the latest first."""
    xs = tg.tensor(np.zeros((lag + 1, 1, 1)), requires_grad=True)
    tg.scan(cell, xs)[0][-1].sum().backward()
    return xs.grad.data[::-1, 0, 0]


def test_a_dilated_cell_is_passed_once_in_dilation_steps():
    w, lag = 0.7, 24
    np.testing.assert_allclose(slopes(linear_cell(w), lag), w ** np.arange(lag + 1.0), rtol=1e-12)
    for d in (2, 3, 8):
        expected = np.zeros(lag + 1)
        expected[::d] = w ** np.arange(lag // d + 1.0)
        np.testing.assert_allclose(slopes(Dilated(linear_cell(w), d), lag), expected, rtol=1e-12)


def test_a_skip_over_time_shortens_the_path():
    """The sum over all paths, of which the shortest has lag / skip steps."""
    w, skip, lag = 0.5, 6, 24
    cell = TimeSkip(linear_cell(w), skip)
    cell.weights.data = np.ones((1, 1))
    expected = [1.0]
    for n in range(1, lag + 1):
        expected.append(w * expected[n - 1] + (w * expected[n - skip] if n >= skip else 0))
    found = slopes(cell, lag)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[lag] > w ** (lag / skip) > 1e5 * w**lag
    cell.weights.data = np.zeros((1, 1))
    np.testing.assert_allclose(slopes(cell, lag), w ** np.arange(lag + 1.0), rtol=1e-12)


class Silent(nn.Cell):
    """F = 0, of weights that are 0."""

    def __init__(self):
        self.input_size = self.state_size = H
        self.weight = nn.Parameter(np.zeros((H, H)))

    def step(self, x, h):
        h = x @ self.weight
        return h, h


def test_residual_cells_that_do_nothing_are_the_identity():
    xs = tg.tensor(draw(T, B, H), requires_grad=True)
    ys = xs
    for _ in range(20):
        ys, _ = tg.scan(Residual(Silent()), ys)
    np.testing.assert_array_equal(ys.data, xs.data)
    g = draw(T, B, H, seed=3)
    (ys * g).sum().backward()
    np.testing.assert_array_equal(xs.grad.data, g)


def test_a_highway_begins_near_its_input():
    cell = Highway(make_lstm(), bias=-40.0, rng=0)
    xs = draw(T, B, H)
    np.testing.assert_allclose(tg.scan(cell, xs)[0].data, xs, atol=1e-12)
    cell.transform.bias.data = np.full(H, 40.0)
    np.testing.assert_allclose(tg.scan(cell, xs)[0].data, tg.scan(cell.cell, xs)[0].data, atol=1e-12)


def test_a_highway_around_a_cell_of_any_size():
    ys, _ = tg.scan(Highway(Counter(), size=1000, dtype=np.float64, rng=0), draw(2, 1, 1000))
    np.testing.assert_allclose(ys.data, draw(2, 1, 1000), rtol=1e-12)  # whose output is its input


def test_one_step_of_dilation_and_no_noise_are_the_cell():
    xs = draw(T, B, H)
    expected = tg.scan(make_lstm(), xs)[0].data
    for cell in (
        Wrapper(make_lstm()), Dilated(make_lstm(), 1), Zoneout(make_lstm(), 0), RecurrentDropout(make_lstm(), 0.0),
        VariationalDropout(make_lstm()),
    ):  # fmt: skip
        np.testing.assert_array_equal(tg.scan(cell, xs)[0].data, expected)


def test_maps_in_parts_are_not_normalised():
    """A cell that does not compute with of_state is, as any other, normalised in what it reads."""
    cell = LayerNormalized(nn.GRUCell(H, H, reset_after=False, rng=0, dtype=np.float64))
    assert cell.of_input is None and cell.of_state.normalized_shape == (H,)
    h = draw(B, H)
    expected = cell.cell.step(draw(B, H, seed=4), normalized(cell.state_dict(), "of_state")(h))[0]
    np.testing.assert_allclose(cell.step(draw(B, H, seed=4), h)[0].data, expected.data, rtol=1e-12)


# What is wrong is said in words --------------------------------------------------------------------------------------

CELL = nn.LSTMCell(2, 4, rng=0)
X = np.ones((T, B, 2), np.float32)
WRONG = {
    "no cell": (lambda: Dilated(np.tanh, 2), TypeError, "Dilated: cell: expected a Cell, got <ufunc 'tanh'>"),
    "dilation": (lambda: Dilated(CELL, 0), ValueError, "Dilated: dilation: expected at least 1 step, got 0"),
    "dilation 1.5": (lambda: Dilated(CELL, 1.5), ValueError, "Dilated: dilation: expected at least 1 step, got 1.5"),
    "skip": (lambda: TimeSkip(CELL, 1), ValueError, "TimeSkip: skip: expected at least 2 steps, got 1"),
    "no size": (lambda: TimeSkip(nn.Cell(), 2), TypeError, "TimeSkip: Cell does not say its state_size"),
    "residual": (lambda: tg.scan(Residual(CELL), X), ValueError,
                 r"Residual: the output is added .* got an output float32 \(2, 4\) of an input float32 \(2, 2\)"),
    "highway": (lambda: tg.scan(Highway(CELL), X), ValueError, "Highway: the output is added to the input"),
    "highway of anything": (lambda: Highway(Counter()), ValueError, "Highway: size: Counter does not say its input_s"),
    "zoneout": (lambda: Zoneout(CELL, 1.1), ValueError, r"Zoneout: p: expected a probability in \[0, 1\], got 1.1"),
    "zoneout of one": (lambda: Zoneout(CELL, (0.1, -0.1)), ValueError, r"expected a probability .* got -0.1"),
    "a word": (lambda: Zoneout(CELL, "0.1"), ValueError, r"expected a probability in \[0, 1\], got '0.1'"),
    "recurrent": (lambda: RecurrentDropout(CELL, 1), ValueError,
                  r"RecurrentDropout: p: expected a probability in \[0, 1\), got 1"),
    "input": (lambda: VariationalDropout(CELL, 1.0), ValueError, r"VariationalDropout: input: expected a prob"),
    "state": (lambda: VariationalDropout(CELL, state=(0.1, 2)), ValueError, "VariationalDropout: state: expected a"),
    "one output": (lambda: VariationalDropout(CELL, output=(0.1, 0.2)), ValueError,
                   r"VariationalDropout: output: expected a probability in \[0, 1\), got \(0.1, 0.2\)"),
    "another tree": (lambda: tg.scan(Zoneout(CELL, (0.1, 0.1, 0.1)), X), ValueError,
                     "Zoneout: p: expected a tuple of 2, got a tuple of 3"),
    "another tree of masks": (lambda: tg.scan(VariationalDropout(CELL, state=[0.1]), X), ValueError,
                              "VariationalDropout: state: expected a tuple of 2, got a list of 1"),
    "no number": (lambda: tg.scan(Zoneout(nn.GRUCell(2, 4), (0.1,)), X), ValueError,
                  r"Zoneout: p: expected a probability for each tensor of the state, got \(0.1,\) for one"),
    "the cell's state": (lambda: tg.scan(Dilated(CELL, 2), X, CELL.initial_state(X[0])), ValueError,
                         r"Dilated: state\[0\]: expected a tuple of 2, got one Tensor"),
    "features": (lambda: tg.scan(Zoneout(CELL, 0.1), X[..., :1]), ValueError, "Zoneout: xs: expected 2 features"),
    "eps": (lambda: LayerNormalized(CELL, -1.0), ValueError, "eps: expected a number that is not negative, got -1.0"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


def test_a_cell_that_is_made_of_another_wraps_nothing():
    """Its state is its own: all of it is held, and dropped, and learned."""

    class Averaged(nn.Cell):
        def __init__(self):
            self.cell, self.input_size, self.state_size = nn.GRUCell(H, H, rng=0, dtype=np.float64), H, (H, H)

        def step(self, x, state):
            y, h = self.cell.step(x, state[0])
            slow = 0.9 * state[1] + 0.1 * y
            return slow, (h, slow)

    state = draw(B, H), draw(B, H, seed=5)
    _, held = tg.scan(Zoneout(Averaged(), 1.0), draw(T, B, H), state)
    for a, b in zip(held, state):
        np.testing.assert_array_equal(a.data, b)
    tg.scan(Zoneout(Averaged(), (0.5, 0.1), rng=0), draw(T, B, H), state)
    assert [p.shape for p in nn.LearnedState(Averaged()).first] == [(H,), (H,)]


def test_before_the_first_step_is_what_is_learned():
    """A queue of a skip over time is filled with what the cell starts from, learned or not."""
    cell = TimeSkip(nn.LearnedState(make_lstm()), 3, rng=0)
    for p in cell.cell.first:
        p.data = draw(*p.shape)
    inner, past = cell.initial_state(draw(B, H))
    assert len(past) == 2
    for queued in past:
        for a, b in zip(queued, inner, strict=True):
            np.testing.assert_array_equal(a.data, b.data)


def test_watching_a_wrapper_is_watching_what_is_in_it():
    cell, other = Zoneout(nn.LSTMCell(3, 2, rng=0), 0.5, rng=0), nn.LSTMCell(3, 2, rng=0)
    with watching(cell) as seen:
        for c in (cell, other):
            tg.scan(c, np.ones((5, 2, 3), np.float32))
    assert {name: len(values) for name, values in seen.items()} == dict.fromkeys([*"ifgoc", "state"], 5)
