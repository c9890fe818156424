"""Sequences in a batch: padding, holes, boundaries, both directions; against the same sequences, one by one."""

from __future__ import annotations

import re

import fakecupy
import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.bptt import checkpointed
from tinygrad_rnn.nn import lstm as family
from tinygrad_rnn.nn import timescales, wrappers
from tinygrad_rnn.tensor import bare

T, B, I, H = 6, 4, 2, 3  # noqa: E741
LENGTHS = [4, 0, 6, 1]


class Tuple(nn.Cell):
    """A user's cell, with a state in a tuple within a dict, and a tensor of three axes in it."""

    def __init__(self, rng=None, dtype=np.float64):
        rng = np.random.default_rng(rng)
        self.input_size, self.state_size = I, {"memory": (H, H), "count": 1}
        self.read, self.write = (nn.Linear(n, H, rng=rng, dtype=dtype) for n in (H, I))

    def initial_state(self, x):
        state = super().initial_state(x)
        a, b = state["memory"]
        return {"memory": (a + 0.1, tg.stack([b, b], axis=1)), "count": state["count"]}

    def step(self, x, state):
        a, b = state["memory"]
        a = tg.tanh(self.read(a) + self.write(x)) + 0.1 * b.sum(axis=1)
        b = 0.9 * b + tg.expand_dims(a, 1)
        return a, {"memory": (a, b), "count": state["count"] + 1}


CELLS = {
    "rnn": lambda **k: nn.RNNCell(I, H, **k),
    "gru": lambda **k: nn.GRUCell(I, H, **k),
    "gru-before": lambda **k: nn.GRUCell(I, H, reset_after=False, **k),
    "lstm": lambda **k: nn.LSTMCell(I, H, **k),
    "lstm-projected": lambda **k: nn.LSTMCell(I, H, proj_size=2, **k),
    "learned": lambda **k: nn.LearnedState(nn.LSTMCell(I, H, **k)),
    "mine": lambda **k: Tuple(**k),
    "leaky": lambda **k: timescales.LeakyCell(I, H, 0.3, **k),
    "clockwork": lambda **k: timescales.ClockworkCell(I, H, (1, 2, 3), **k),
    "peepholes": lambda **k: family.LSTMVariantCell(I, H, peepholes=True, gate_recurrence=True, **k),
    "minimal": lambda **k: family.MinimalGatedCell(I, H, **k),
    "zoneout": lambda **k: wrappers.Zoneout(nn.LSTMCell(I, H, **k), (0.2, 0.3)).eval(),
    "variational": lambda **k: wrappers.VariationalDropout(nn.GRUCell(I, H, **k), 0.2, 0.3, 0.4).eval(),
    "time-skip": lambda **k: wrappers.TimeSkip(nn.LSTMCell(I, H, **k), 2, rng=1),
    "dilated": lambda **k: wrappers.Dilated(nn.GRUCell(I, H, **k), 2),
    "residual": lambda **k: wrappers.Residual(nn.GRUCell(I, I, **k)),
    "highway": lambda **k: wrappers.Highway(nn.LSTMCell(I, I, **k), rng=1),
    "dense": lambda **k: wrappers.Dense(nn.GRUCell(I, H, **k)),
    "normalized": lambda **k: wrappers.LayerNormalized(nn.LSTMCell(I, H, **k)),
    "nested": lambda **k: wrappers.Dilated(wrappers.TimeSkip(wrappers.Dense(nn.LSTMCell(I, H, **k)), 3, rng=1), 2),
}
each_cell = pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def leaves(tree):
    return tg.trees.flatten(tree)[0]


def float64(make):
    cell = make(rng=0, dtype=np.float64)
    for p in cell.parameters():
        p.data = p.data + 0.3 * draw(*p.shape)
    return cell


def random_state(cell, batch=B):
    """A state that is not the initial one, as leaves of a tape."""
    zeros = cell.initial_state(np.zeros((batch, I)))
    numbers = iter(range(10, 99))

    def moved(s):
        counts = s.shape[-1] == 1
        if s.dtype.kind != "f":
            return tg.tensor(s.data + 1)
        return tg.tensor(s.data + (1 if counts else draw(*s.shape, seed=next(numbers))), requires_grad=True)

    return tg.trees.map(moved, zeros)


def weigh(ys, state, seed=50):
    """A loss in which each number counts differently, and whatever is at the padding, too."""
    parts = [ys, *leaves(state)]
    return sum((draw(*p.shape, seed=seed + i) * p * p).sum() for i, p in enumerate(parts))


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(a.data), np.asarray(b.data), rtol=tolerance, atol=tolerance)


def grads(cell, *others):
    found = [np.zeros(p.shape) if p.grad is None else p.grad.data for p in (*cell.parameters(), *others)]
    cell.zero_grad()
    for x in others:
        x.grad = None
    return found


# Padding --------------------------------------------------------------------------------------------------------------


@each_cell
@both_ways
def test_a_padded_batch_is_its_sequences_one_by_one(make, reverse):
    cell, state = float64(make), random_state(float64(make))
    xs = tg.tensor(draw(T, B, I), requires_grad=True)
    ys, last, every = tg.scan(cell, xs, state, lengths=LENGTHS, reverse=reverse, states=True)
    weigh(ys, last).backward()
    batch = grads(cell, xs, *[s for s in leaves(state) if s.requires_grad])

    losses = 0
    for b, n in enumerate(LENGTHS):
        alone = tg.scan(cell, xs[:n, b : b + 1], tg.trees.map(lambda s, b=b: s[b : b + 1], state), reverse=reverse)
        close(alone[0], ys[:n, b : b + 1])
        assert not ys.data[n:, b].any()
        for one, of_batch in zip(leaves(alone[1]), leaves(last), strict=True):
            close(one, of_batch[b : b + 1])
        padded = tg.concatenate([alone[0], np.zeros((T - n, *alone[0].shape[1:]))])
        weights = [draw(*p.shape, seed=50 + i) for i, p in enumerate([ys, *leaves(last)])]
        losses = losses + (weights[0][:, b : b + 1] * padded * padded).sum()
        losses = losses + sum((w[b : b + 1] * s * s).sum() for w, s in zip(weights[1:], leaves(alone[1])))
    losses.backward()
    for a, b in zip(batch, grads(cell, xs, *[s for s in leaves(state) if s.requires_grad]), strict=True):
        close(a, b)
    for e, s in zip(leaves(every), leaves(last), strict=True):
        assert e.shape == (T, *s.shape)
        close(e[0 if reverse else -1], s)
    for b, n in enumerate(LENGTHS):
        assert not batch[len(list(cell.parameters()))][n:, b].any(), "a gradient with regard to padding"


@each_cell
@both_ways
def test_what_the_padding_holds_is_never_seen(make, reverse):
    cell, xs = float64(make), draw(T, B, I)
    results = []
    for filler in (0.0, 1e6, np.nan):
        x = np.where((np.arange(T)[:, None] < LENGTHS)[..., None], xs, filler)
        x = tg.tensor(x, requires_grad=True)
        ys, last = tg.scan(cell, x, lengths=LENGTHS, reverse=reverse)
        weigh(ys, last).backward()
        results.append([ys.data, *[s.data for s in leaves(last)], *grads(cell, x)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@each_cell
@both_ways
def test_holes_hold_the_state(make, reverse):
    """Which is: the steps with an input, one after another."""
    cell, xs = float64(make), draw(T, B, I)
    mask = np.random.default_rng(3).random((T, B)) < 0.6
    mask[:, 1], mask[2] = False, False
    state = random_state(cell)
    ys, last, every = tg.scan(cell, xs, state, mask=mask, reverse=reverse, states=True)
    for b in range(B):
        start = tg.trees.map(lambda s, b=b: s[b : b + 1], state)
        some = mask[:, b]
        alone = tg.scan(cell, xs[some, b : b + 1], start, reverse=reverse, states=True)
        close(alone[0], ys.data[some, b : b + 1])
        assert not ys.data[~some, b].any()
        for one, all_, part, before in zip(leaves(alone[2]), leaves(every), leaves(last), leaves(start), strict=True):
            close(one, all_.data[some, b : b + 1])
            held = before.data
            for t in range(T)[:: -1 if reverse else 1]:
                held = all_.data[t, b : b + 1] if some[t] else held
                np.testing.assert_array_equal(all_.data[t, b : b + 1], held)
            np.testing.assert_array_equal(part.data[b : b + 1], held)


def test_second_order_through_a_mask():
    cell, mask = float64(CELLS["gru"]), np.random.default_rng(3).random((T, B)) < 0.6
    tg.check_gradients(lambda xs, h: tg.scan(cell, xs, h, mask=mask), draw(T, B, I), draw(B, H), order=2)


@pytest.mark.tape
@both_ways
def test_steps_without_any_input_are_not_computed(reverse):
    calls = []

    class Counting(nn.RNNCell):
        def step(self, x, h):
            calls.append(1)
            return super().step(x, h)

    cell, xs = Counting(I, H, rng=0), draw(T, B, I).astype(np.float32)
    mask = np.zeros((T, B), bool)
    mask[[1, 3], 2] = True
    tg.scan(cell, xs, mask=mask, reverse=reverse)
    assert len(calls) == 2
    ys, h = tg.scan(cell, xs, mask=np.zeros((T, B), bool), reverse=reverse)
    assert not ys.data.any() and not h.data.any() and ys.shape == (T, B, H)
    (ys.sum() + h.sum()).backward()
    assert all(not p.grad.data.any() for p in cell.parameters())


def test_no_mask_no_work():
    cell, xs = nn.LSTMCell(I, H, rng=0), draw(T, B, I).astype(np.float32)
    plain = len(tg.tape(tg.scan(cell, xs)[0]))
    assert len(tg.tape(tg.scan(cell, xs, lengths=[T] * B)[0])) == plain
    assert len(tg.tape(tg.scan(cell, xs, mask=np.ones((T, B), bool))[0])) == plain
    assert len(tg.tape(tg.scan(cell, xs, reset=np.zeros((T, B), bool))[0])) == plain
    np.testing.assert_array_equal(tg.scan(cell, xs)[0].data, tg.scan(cell, xs, lengths=[T] * B)[0].data)


@each_cell
@both_ways
@pytest.mark.parametrize("options", ["lengths", "mask", "reset"])
def test_no_steps_and_no_sequences(make, reverse, options):
    cell = make(rng=0, dtype=np.float64)
    for t, b in ((0, 2), (3, 0), (0, 0)):
        given = {options: [0] * b if options == "lengths" else np.zeros((t, b), bool)}
        state = random_state(cell, b)
        ys, last, every = tg.scan(cell, np.ones((t, b, I)), state, **given, reverse=reverse, states=True)
        assert ys.shape[:2] == (t, b) and ys.ndim == 3
        for s, e in zip(leaves(last), leaves(every), strict=True):
            assert e.shape == (t, *s.shape)
        sum(s.sum() for s in leaves(last)).backward()
        if t == 0:
            assert all((s.grad.data == 1).all() for s in leaves(state) if s.requires_grad)


@both_ways
@pytest.mark.parametrize("run", [tg.scan, checkpointed])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_padding_holds_what_is_asked_for(run, reverse, dtype):
    cell, xs, mask = nn.GRUCell(I, H, rng=0, dtype=dtype), draw(T, B, I).astype(dtype), np.arange(T)[:, None] < LENGTHS
    mask[2] = False  # which is not computed
    plain, last = run(cell, xs, mask=mask, reverse=reverse)
    for value in (-1, np.nan, np.float64(0.5)):
        ys, same = run(cell, xs, mask=mask, reverse=reverse, pad_value=value)
        assert ys.dtype == dtype
        np.testing.assert_array_equal(ys.data, np.where(mask[..., None], plain.data, value))
        np.testing.assert_array_equal(same.data, last.data)
        gradients = [tg.gradients(tg.where(mask[..., None], y, 0).sum(), cell.weight_hh, retain_graph=True)
                     for y in (ys, plain)]  # fmt: skip
        np.testing.assert_array_equal(*[g.data for g in gradients])
    ys, _ = run(cell, xs, lengths=[0] * B, pad_value=7)
    assert (ys.data == 7).all()
    with pytest.raises(TypeError, match=r"^pad_value: expected a number, got 'zero'$"):
        run(cell, xs, pad_value="zero")


@both_ways
@pytest.mark.parametrize("run", [tg.scan, checkpointed])
def test_a_cell_that_is_finite_for_all_inputs_is_so_in_padding(run, reverse):
    """It divides by its input, and takes its logarithm; what is in the padding is not seen, and 0 is no input."""
    w = tg.tensor(0.7, requires_grad=True)

    def step(x, h):
        h = 0.5 * h + w * tg.log(x) / (x * (w - 0.8 + x * 0.1))
        return h, h

    lengths, xs = [4, 0, 6, 1], tg.tensor(np.full((T, B), 2.0), requires_grad=True)
    given = {"parameters": [w]} if run is checkpointed else {}
    ys, last = run(step, xs, np.zeros(B), lengths=lengths, reverse=reverse, **given)
    gradients = tg.gradients(ys.sum() + last.sum(), [w, xs])
    assert all(np.isfinite(g.data).all() for g in gradients)
    assert not gradients[1].data[np.arange(T)[:, None] >= lengths].any()


def test_what_is_not_computed_draws_nothing():
    for options in ({"lengths": [0] * B}, {}):
        cell = wrappers.Zoneout(nn.GRUCell(I, H, rng=0), 0.5, rng=1)
        before = cell.rng.bit_generator.state
        with nn.watching() as seen:
            tg.scan(cell, np.ones((T if options else 0, B, I), np.float32), **options)
        assert cell.rng.bit_generator.state == before and not seen


# Watching -------------------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("run", [tg.scan, checkpointed])
def test_what_is_seen_has_its_time(run, reverse):
    """Entry t is that of step t: None, where there was none. What is computed again is not shown again."""
    cell, xs = float64(CELLS["gru"]), draw(T, B, I)
    mask = np.ones((T, B), bool)
    mask[[1, 4]] = False
    with nn.watching() as seen:
        ys, _, states = run(cell, xs, mask=mask, reverse=reverse, states=True)
        (ys * ys).sum().backward()
    assert list(seen) == ["r", "z", "n", "state"]
    for t in range(T):
        if not mask[t, 0]:
            assert seen["z"][t] is seen["r"][t] is seen["state"][t] is None
            continue
        before = (
            states.data[t + 1 if reverse else t - 1] if 0 <= (t + 1 if reverse else t - 1) < T else np.zeros((B, H))
        )
        z, n = (seen[name][t].data for name in "zn")
        close(n + z * (before - n), states[t])
    assert {len(values) for values in seen.values()} == {T}


@both_ways
def test_states_are_seen_as_the_next_step_starts_from_them(reverse):
    """Held where a sequence has no input; and the gradient by one is the whole gradient, of its output, too."""
    cell, xs, lengths = float64(CELLS["lstm"]), draw(T, B, I), [T - 2, 1, 0, 2][:B]
    with nn.watching(cell) as seen:
        ys, last, states = tg.scan(cell, xs, lengths=lengths, reverse=reverse, states=True, compiled=False)
    assert seen["state"][T - 1] is None and all(s is None or len(s) == 2 for s in seen["state"])
    for t in range(T - 2):
        for part, all_of_it in zip(seen["state"][t], states):
            np.testing.assert_array_equal(part.data, all_of_it.data[t])
    t = 0 if reverse else T - 3  # the last step that is computed
    assert all(a is b for a, b in zip(seen["state"][t], last))
    (g,) = tg.gradients((ys**2).sum(), [seen["state"][t][0]])
    there = (t < np.array(lengths))[:, None]
    np.testing.assert_array_equal(g.data, np.where(there, 2 * ys.data[t], 0))


def test_the_states_of_a_scan_within_a_step_are_not_those_of_the_step():
    inner = nn.GRUCell(I, H, rng=0)

    class Outer(nn.Cell):
        input_size, state_size = I, H

        def __init__(self):
            self.inner = inner

        def step(self, x, h):
            _, h = tg.scan(self.inner, tg.stack([x, x]), h)
            return h, h

    outer, xs = Outer(), draw(5, B, I).astype(np.float32)
    with nn.watching(outer) as seen:
        _, h = tg.scan(outer, xs)
    assert len(seen["state"]) == 5 and seen["state"][-1] is h and [len(z) for z in seen["z"]] == [2] * 5
    with nn.watching(inner) as seen:
        tg.scan(outer, xs)
    assert [len(s) for s in seen["state"]] == [2] * 5


def test_two_cells_of_one_step_are_seen_as_a_pair():
    first, second = (nn.GRUCell(I, I, rng=i) for i in range(2))

    def step(x, state):
        x, a = first.step(x, state[0])
        x, b = second.step(x, state[1])
        return x, (a, b)

    h = np.zeros((B, I), np.float32)
    with nn.watching() as seen:
        for _ in range(2):
            tg.scan(step, draw(T, B, I).astype(np.float32), (h, h))
    assert [len(entry) for entry in seen["z"]] == [2] * 2 * T
    with nn.watching(second) as seen:
        tg.scan(step, draw(T, B, I).astype(np.float32), (h, h))
    assert [entry.shape for entry in seen["z"]] == [(B, I)] * T


def test_what_layers_show_begins_with_their_names():
    net = nn.Recurrent([nn.LSTMCell(I, H, rng=0), nn.GRUCell(2 * H, H, rng=1)],
                       bidirectional=[nn.GRUCell(I, H, rng=2), nn.RNNCell(2 * H, H, rng=3)])  # fmt: skip
    with nn.watching() as seen:
        net(draw(T, B, I).astype(np.float32), lengths=LENGTHS)
    expected = [f"layers.0.forward.{name}" for name in [*"ifgoc", "state"]]
    expected += [f"layers.{layer}.{name}" for layer in ("0.backward", "1.forward") for name in [*"rzn", "state"]]
    expected += ["layers.1.backward.state"]
    assert list(seen) == expected and {len(values) for values in seen.values()} == {T}


# Boundaries -----------------------------------------------------------------------------------------------------------


@each_cell
@both_ways
def test_resets_are_separate_sequences(make, reverse):
    cell, xs = float64(make), tg.tensor(draw(T, 1, I), requires_grad=True)
    state = random_state(cell, 1)
    reset = np.zeros((T, 1), bool)
    reset[[0, 2, 5] if reverse else [2, 5]] = True  # at 0, what runs back has ended, and is not put back
    ys, last, every = tg.scan(cell, xs, state, reset=reset, reverse=reverse, states=True)
    pieces = [slice(0, 2), slice(2, 5), slice(5, 6)]
    first = pieces[-1] if reverse else pieces[0]
    alone = [tg.scan(cell, xs[p], state if p is first else None, reverse=reverse, states=True) for p in pieces]
    close(ys, tg.concatenate([a[0] for a in alone]))
    for i, s in enumerate(leaves(every)):
        close(s, tg.concatenate([leaves(a[2])[i] for a in alone]))
    end = alone[0 if reverse else -1][1]
    for a, b in zip(leaves(last), leaves(end), strict=True):
        close(a, b)
    w = draw(*ys.shape)
    for p in pieces:  # no gradient from one to another
        g = tg.gradients((w * ys)[p].sum(), xs, retain_graph=True).data.copy()
        assert g[p].any()
        g[p] = 0
        assert not g.any()
    weigh(ys, last).backward()
    together = grads(cell, xs)
    weigh(tg.concatenate([a[0] for a in alone]), end).backward()
    for a, b in zip(together, grads(cell, xs)):
        close(a, b)


@both_ways
def test_resets_and_padding_together(reverse):
    """Two streams of one batch, with boundaries of their own, one shorter than the other."""
    cell, xs = float64(CELLS["lstm"]), draw(T, 2, I)
    reset = np.zeros((T, 2), bool)
    reset[3, 0] = reset[2, 1] = True
    ys, (_, c) = tg.scan(cell, xs, reset=reset, lengths=[6, 4], reverse=reverse)
    for b, pieces in enumerate([[slice(0, 3), slice(3, 6)], [slice(0, 2), slice(2, 4)]]):
        alone = [tg.scan(cell, xs[p, b : b + 1], reverse=reverse) for p in pieces]
        for p, (y, _) in zip(pieces, alone):
            close(y, ys[p, b : b + 1])
        close(alone[0 if reverse else -1][1][1], c[b : b + 1])
    assert not ys.data[4:, 1].any()


def test_a_reset_at_a_step_that_nobody_attends():
    cell, xs = float64(CELLS["gru"]), draw(T, 1, I)
    mask, reset = np.ones((T, 1), bool), np.zeros((T, 1), bool)
    mask[2:4], reset[3] = False, True
    ys, _ = tg.scan(cell, xs, mask=mask, reset=reset)
    close(ys[4:], tg.scan(cell, xs[4:])[0])


def test_a_function_is_reset_to_its_first_state_and_masked():
    def total(x, state):
        return state + x, state + x

    xs, reset = np.ones((5, 2)), np.zeros((5, 2), bool)
    reset[2, 0] = True
    ys, _ = tg.scan(total, xs, np.array([10.0, 20.0]), reset=reset)
    np.testing.assert_array_equal(ys, [[11, 21], [12, 22], [11, 23], [12, 24], [13, 25]])
    ys, last = tg.scan(total, xs, np.zeros(2), lengths=[3, 5])
    np.testing.assert_array_equal(ys, [[1, 1], [2, 2], [3, 3], [0, 4], [0, 5]])
    np.testing.assert_array_equal(last, [3, 5])


@pytest.mark.tape
def test_what_a_step_does_not_change_may_be_of_any_shape():
    def step(x, state):
        h, weight = state
        h = tg.tanh(x @ weight + h)
        return h, (h, weight)

    state = draw(B, H), draw(I, H, seed=2)
    ys, (_, weight) = tg.scan(step, draw(T, B, I), state, lengths=LENGTHS)
    assert weight is state[1] and not ys[4:, 0].any()
    tg.check_gradients(lambda *state: tg.scan(step, draw(T, B, I), state, lengths=LENGTHS)[0], *state)


# Direction, states ----------------------------------------------------------------------------------------------------


@each_cell
def test_reverse_is_the_sequence_reversed(make):
    cell, xs = float64(make), draw(T, B, I)
    ys, last, every = tg.scan(cell, xs, reverse=True, states=True)
    there = tg.scan(cell, xs[::-1], states=True)
    np.testing.assert_array_equal(ys.data, there[0].data[::-1])
    for a, b in zip(leaves(last), leaves(there[1]), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    for a, b in zip(leaves(every), leaves(there[2]), strict=True):
        np.testing.assert_array_equal(a.data, b.data[::-1])


@pytest.mark.tape
@each_cell
def test_all_states(make):
    cell, xs = float64(make), draw(T, B, I)
    ys, _, every = tg.scan(cell, xs, states=True)
    state = None
    for t, x in enumerate(xs):
        y, state = cell(x, state)
        np.testing.assert_array_equal(y.data, ys.data[t])
        for a, b in zip(leaves(state), leaves(every), strict=True):
            np.testing.assert_array_equal(a.data, b.data[t])


def test_the_cell_states_of_an_lstm_have_gradients():
    cell = float64(CELLS["lstm"])
    tg.check_gradients(lambda xs: tg.scan(cell, xs, states=True, lengths=LENGTHS)[2][1], draw(T, B, I))


def test_anomaly_names_the_step_of_the_time():
    cell, xs = nn.RNNCell(I, H, nonlinearity="relu", rng=0), np.ones((T, B, I), np.float32)
    cell.weight_ih.data = cell.weight_ih.data * 100
    xs[2, 1] = 1e38
    for options in (dict(reverse=True), dict(mask=np.arange(T)[:, None] % 2 == np.zeros(B))):
        wanted = pytest.raises(tg.AnomalyError, match="step 2 of RNNCell")
        with np.errstate(over="ignore"), tg.anomaly(), wanted:
            tg.scan(cell, xs, **options)


# Where the arrays are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("options", ["lengths", "mask", "reset", "mask and reset"])
@both_ways
def test_masks_on_every_backend(options, where, reverse, xp):
    cell, xs = nn.LSTMCell(I, H, rng=0), draw(T, B, I).astype(np.float32)
    given = {}
    if options == "lengths":
        given["lengths"] = LENGTHS
    if "mask" in options:
        given["mask"] = np.random.default_rng(3).random((T, B)) < 0.6
    if "reset" in options:
        given["reset"] = np.random.default_rng(4).random((T, B)) < 0.3
    ys, last, every = tg.scan(cell, xs, **given, reverse=reverse, states=True)
    weigh(ys, last).backward()
    expected = [ys.data, *[s.data for s in leaves((last, every))], *grads(cell)]
    if xp is not np:
        cell.to("cuda")
    if where == "device" and options != "lengths":
        given = {name: xp.asarray(value) for name, value in given.items()}
    copies = fakecupy.copies_to_host()
    ys, last, every = tg.scan(cell, tg.tensor(xp.asarray(xs)), **given, reverse=reverse, states=True)
    assert fakecupy.copies_to_host() == copies
    parts = [ys, *leaves(last)]
    weights = [xp.asarray(draw(*p.shape, seed=50 + i)) for i, p in enumerate(parts)]
    sum((w * p * p).sum() for w, p in zip(weights, parts)).backward()
    found = [ys, *leaves((last, every)), *[p.grad for p in cell.parameters()]]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-4, atol=1e-5)


# What is wrong is said in words ---------------------------------------------------------------------------------------

X = np.ones((T, B, I), np.float32)
GRU = nn.GRUCell(I, H, rng=0)


def wrong_lengths(*lengths):
    return lambda: tg.scan(GRU, X, lengths=list(lengths))


WRONG = {
    "too long": (wrong_lengths(7, 6, 0, 99), ValueError,
                 r"lengths: expected numbers from 0 to 6, as xs has 6 steps; got 7 at \[0\], 99 at \[3\]$"),
    "negative": (wrong_lengths(1, -2, 3, 4), ValueError, r"got -2 at \[1\]$"),
    "many": (lambda: tg.scan(GRU, np.ones((T, 20, I), np.float32), lengths=[9] * 20), ValueError,
             r"9 at \[7\], \.\.\.$"),
    "fractions": (wrong_lengths(1.0, 2.0, 3.0, 4.0), ValueError,
                  r"lengths: expected 4 integers, one for each sequence, got float64 \(4,\)$"),
    "booleans": (wrong_lengths(True, False, True, True), ValueError, "expected 4 integers"),
    "too few": (wrong_lengths(1, 2), ValueError, r"expected 4 integers, .* got int64 \(2,\)$"),
    "one number": (lambda: tg.scan(GRU, X, lengths=3), ValueError, r"expected 4 integers, .* got int64 \(\)"),
    "of the steps": (wrong_lengths(*[4] * T), ValueError, r"\(6,\); xs is time first: 6 steps of 4 sequences"),
    "both": (lambda: tg.scan(GRU, X, lengths=LENGTHS, mask=np.ones((T, B), bool)), ValueError,
             "lengths, mask: expected one of them, got both"),
    "mask's shape": (lambda: tg.scan(GRU, X, mask=np.ones((B, T), bool)), ValueError,
                     r"mask: expected booleans \(time, batch\), \(6, 4\) as of xs, got bool \(4, 6\).* pass mask.T"),
    "mask's dtype": (lambda: tg.scan(GRU, X, mask=np.ones((T, B))), ValueError, r"got float64 \(6, 4\)$"),
    "resets": (lambda: tg.scan(GRU, X, reset=[True] + [False] * (T - 1)), ValueError,
               r"reset: expected booleans \(time, batch\), \(6, 4\) as of xs, got bool \(6,\)"),
    "no batch": (lambda: tg.scan(GRU, X[:, 0], lengths=[T]), ValueError,
                 r"lengths, mask, reset: GRUCell: xs has no batch axis, it is float32 \(6, 2\)"),
    "no rows": (lambda: tg.scan(lambda x, n: (x, n + 1), X, 0, lengths=LENGTHS), ValueError,
                r"the state that it returned: expected a tensor \(batch, \.\.\.\), 4 rows, .* got 1"),
    "no rows of y": (lambda: tg.scan(lambda x, n: (x.sum(), n), X, X[0], lengths=LENGTHS), ValueError,
                     r"its output: expected a tensor \(batch, \.\.\.\), 4 rows"),
    "another state": (lambda: tg.scan(lambda x, h: (x, h[:, :1]), X, X[0], lengths=LENGTHS), ValueError,
                      r"the state that it returned: expected float32 \(4, 2\), .* got float32 \(4, 1\)"),
    "another tree": (lambda: tg.scan(lambda x, h: (x, (h, h)), X, (X[0],), lengths=LENGTHS), ValueError,
                     "the state that it returned: expected a tuple of 1, got a tuple of 2"),
    "no output": (lambda: tg.scan(lambda x, h: (None, h), X, X[0]), TypeError,
                  "^<lambda>: its output: expected a tensor or an array, got None$"),
    "several outputs": (lambda: tg.scan(lambda x, h: ({"y": x}, h), X, X[0]), TypeError,
                        r"^<lambda>: its output: expected a tensor or an array, got a dict of 1: 'y': float32 \(4"),
    "no pair": (lambda: tg.scan(lambda x, h: h, X, X[0], lengths=LENGTHS), TypeError,
                r"expected it to return a tuple \(y, state\)"),
    "three": (lambda: tg.scan(lambda x, h: (x, h, h), X, X[0]), TypeError,
              r"got a tuple of 3: float32 \(4, 2\), .*, float32 \(4, 2\): put the state's tensors into one tuple"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert re.search(message, str(caught.value)), str(caught.value)


class Late(nn.Cell):
    """Fails at the step that has that number in its input."""

    input_size, state_size = 1, 1

    def step(self, x, h):
        return (x @ np.ones((3, 3)) if bare(x).any() else x), h


LATE = np.zeros((5, 1, 1))
LATE[3] = 1


@pytest.mark.parametrize(("run", "places"), [
    (lambda: tg.scan(Late(), LATE), ["in step 3 of Late"]),
    (lambda: tg.scan(Late(), LATE, reverse=True), ["in step 3 of Late"]),
    (lambda: tg.scan(Late(), LATE[3:]), ["in step 0 of Late"]),
    (lambda: tg.scan(Late(), LATE, mask=LATE[..., 0] > 0), ["in step 3 of Late"]),
    (lambda: tg.scan(Late(), np.repeat(LATE, 12, axis=0)), ["in step 36 of Late"]),  # which would be compiled
    (lambda: tg.scan(lambda x, h: tg.scan(Late(), LATE), LATE, 0), ["in step 3 of Late", "in step 0 of <lambda>"]),
    (lambda: checkpointed(Late(), LATE, every=2), ["in step 0 of Late", "in the segment that begins with step 3"]),
    (lambda: nn.Recurrent([Late(), Late()])(LATE),
     ["in step 3 of Late", "in layer 0, forward, of Recurrent, of which x is (time, batch, features)"]),
])  # fmt: skip
def test_an_error_within_a_step_says_in_which(run, places):
    with pytest.raises(ValueError, match=r"^matmul") as caught:
        run()
    assert caught.value.__notes__ == places


@pytest.mark.parametrize("error", [KeyError, ZeroDivisionError, KeyboardInterrupt])
def test_whatever_the_error(error):
    def step(x, h):
        raise error("what")

    with pytest.raises(error) as caught:
        tg.scan(step, X, X[0])
    assert getattr(caught.value, "__notes__", []) == (["in step 0 of step"] if issubclass(error, Exception) else [])


def test_lengths_are_looked_at_before_anything_is_computed():
    def step(x, state):
        raise AssertionError("it was called")

    with pytest.raises(ValueError, match="lengths"):
        tg.scan(step, X, X[0], lengths=[T + 1] * B)


def test_lengths_and_masks_elsewhere():
    with fakecupy.installed() as cupy:
        with pytest.raises(tg.DeviceError, match="lengths: expected them on the CPU"):
            tg.scan(GRU, X, lengths=cupy.asarray(np.array(LENGTHS)))
        with pytest.raises(
            tg.DeviceError, match=r"mask: expected it on the CPU, or with xs, .*; it is bool .* on cuda:0"
        ):
            tg.scan(GRU, X, mask=cupy.asarray(np.ones((T, B), bool)))


def test_a_mask_may_be_changed_afterwards():
    cell, xs = float64(CELLS["gru"]), tg.tensor(draw(T, B, I), requires_grad=True)
    mask = np.arange(T)[:, None] < LENGTHS
    ys, _ = tg.scan(cell, xs, mask=mask)
    mask[:] = True
    ys.sum().backward()
    assert not xs.grad.data[:, 1].any()
