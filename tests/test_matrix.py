"""Every cell in every way to run it: the gradient of the whole loop, and what must be equal, is.

The cells are a table, and so are the ways: a failure names both. Whole loops are differentiated with regard to the
inputs, the first state and all parameters at once, along one random direction: a few runs of the loop, for any number
of numbers. What is random draws the same at each run.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, trees
from tinygrad_rnn.arrays import has_gradient
from tinygrad_rnn.bptt import checkpointed, rtrl, truncated
from tinygrad_rnn.nn.layers import Recurrent, output_size
from tinygrad_rnn.nn.lstm import LSTM1997Cell, LSTMVariantCell, MinimalGatedCell
from tinygrad_rnn.nn.recurrent import drawn_from
from tinygrad_rnn.nn.timescales import ClockworkCell, LeakyCell
from tinygrad_rnn.nn.wrappers import (
    Dense,
    Dilated,
    Highway,
    LayerNormalized,
    RecurrentDropout,
    Residual,
    TimeSkip,
    VariationalDropout,
    Zoneout,
)

T, B, I, H = 5, 3, 2, 3  # noqa: E741  steps, sequences, features, units
EXACT = 1e-12


# The cells ------------------------------------------------------------------------------------------------------------


class Pair(nn.Cell):
    """A user's cell: its state is a tuple of two sizes, its output is no part of it, its input_size is known."""

    def __init__(self, input_size, hidden_size, rng=None, dtype=np.float64):
        rng = np.random.default_rng(rng)
        self.input_size, self.state_size = input_size, (hidden_size, 2)
        self.fast = nn.Linear(input_size + hidden_size + 2, hidden_size, rng=rng, dtype=dtype)
        self.slow = nn.Linear(hidden_size, 2, rng=rng, dtype=dtype)

    def step(self, x, state):
        fast, slow = state
        fast = tg.tanh(self.fast(tg.concatenate([x, fast, slow], axis=-1)))
        slow = 0.8 * slow + tg.sin(self.slow(fast))
        return fast * (1 + slow.sum(axis=-1, keepdims=True)), (fast, slow)


class Named(nn.Cell):
    """A user's cell: its state is a dict, with a tuple and a number of steps, an integer, in it."""

    def __init__(self, input_size, hidden_size, rng=None, dtype=np.float64):
        rng = np.random.default_rng(rng)
        self.input_size, self.state_size = input_size, {"fast": hidden_size, "memory": (2,)}
        self.fast = nn.Linear(input_size + 2, hidden_size, rng=rng, dtype=dtype)
        self.slow = nn.Linear(hidden_size + 2, 2, rng=rng, dtype=dtype)

    def initial_state(self, x):
        return super().initial_state(x) | {"steps": tg.tensor(np.zeros((*x.shape[:-1], 1), np.int64))}

    def step(self, x, state):
        (slow,), n = state["memory"], state["steps"]
        fast = tg.tanh(self.fast(tg.concatenate([x, slow], axis=-1)) + state["fast"] / (n + 1))
        slow = 0.9 * slow + tg.tanh(self.slow(tg.concatenate([fast, slow], axis=-1)))
        return tg.concatenate([fast * fast, slow], axis=-1), {"fast": fast, "memory": (slow,), "steps": n + 1}


def leak():
    return nn.Parameter(np.array([0.2, 0.5, 0.9]))


INNER = {"lstm": nn.LSTMCell, "own": Pair}  # what the wrappers are put around: a cell of the package, and a user's
WRAPPERS = {
    "timeskip": lambda cell: TimeSkip(cell, 2, rng=1),
    "timeskip-3": lambda cell: TimeSkip(cell, 3, rng=1),
    "dilated": lambda cell: Dilated(cell, 2),
    "residual": Residual,
    "highway": lambda cell: Highway(cell, rng=1),
    "dense": Dense,
    "zoneout": lambda cell: Zoneout(cell, 0.4, rng=1),
    "zoneout-each": lambda cell: Zoneout(cell, (0.0, 0.6), rng=2),
    "recurrent-dropout": lambda cell: RecurrentDropout(cell, 0.4, rng=1),
    "variational": lambda cell: VariationalDropout(cell, 0.3, 0.4, 0.5, rng=3),
    "normalized": LayerNormalized,
    "nested": lambda cell: Zoneout(Dilated(VariationalDropout(LayerNormalized(cell), 0.3, 0.4, rng=1), 2), 0.3, rng=2),
}
SQUARE = {"residual", "highway"}  # those whose output is as large as their input

CELLS = {
    **{f"rnn-{φ}": lambda n, φ=φ, **k: nn.RNNCell(n, H, nonlinearity=φ, **k)
       for φ in ("tanh", "relu", "sigmoid", "linear")},
    "rnn-no-bias": lambda n, **k: nn.RNNCell(n, H, bias=False, **k),
    "irnn": lambda n, **k: nn.IRNNCell(n, H, std=0.5, **k),
    "lstm": lambda n, **k: nn.LSTMCell(n, H, **k),
    "lstm-projected": lambda n, **k: nn.LSTMCell(n, H, proj_size=2, **k),
    "lstm-forget": lambda n, **k: nn.LSTMCell(n, H, forget_bias=1.0, forget_identity=True, **k),
    **{f"lstm-{v}": lambda n, v=v, **k: LSTMVariantCell(n, H, **LSTMVariantCell.VARIANTS[v], **k)
       for v in LSTMVariantCell.VARIANTS},
    "lstm-1997": lambda n, **k: LSTM1997Cell(n, blocks=2, cells=2, **k),
    "lstm-1997-alone": lambda n, **k: LSTM1997Cell(n, blocks=2, bias="gates", output_gate=False, recurrent=False, **k),
    **{f"gru-{'after' if after else 'before'}-{z}":
       lambda n, after=after, z=z, **k: nn.GRUCell(n, H, reset_after=after, update_gate=z, **k)
       for after in (True, False) for z in ("keeps", "overwrites")},
    "minimal": lambda n, **k: MinimalGatedCell(n, H, **k),
    "leaky": lambda n, **k: LeakyCell(n, H, leak(), **k),
    "leaky-average": lambda n, **k: LeakyCell(n, H, 0.3, nonlinearity="linear", recurrent=False, **k),
    "clockwork": lambda n, **k: ClockworkCell(n, H, (1, 2, 3), **k),
    "own": lambda n, **k: Pair(n, H, **k),
    "own-dict": lambda n, **k: Named(n, H, **k),
    **{f"{name}-{inner}": lambda n, name=name, inner=inner, **k: WRAPPERS[name](
        INNER[inner](n, n if name in SQUARE else H, **k))
       for inner in INNER for name in WRAPPERS},
}  # fmt: skip
RANDOM = [f"{name}-{inner}" for inner in INNER for name in WRAPPERS
          if name.startswith(("zoneout", "recurrent", "variational", "nested"))]  # fmt: skip
CUT = {"lstm-1997-truncated": lambda n, **k: LSTM1997Cell(n, blocks=2, truncated=True, **k)}  # no slope, by design
each_true_cell = pytest.mark.parametrize("name", CELLS)
each_cell = pytest.mark.parametrize("name", [*CELLS, *CUT])


def make(name, input_size=I, seed=0):
    """A cell whose weights are no special case."""
    cell, rng = (CELLS | CUT)[name](input_size, rng=seed, dtype=np.float64), np.random.default_rng(seed)
    for p in cell.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape)
    return cell


# A case: a model, and what it is run on -------------------------------------------------------------------------------


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


weights = lru_cache(maxsize=None)(lambda i, shape: draw(*shape, seed=50 + i))


def leaf(array):
    return tg.tensor(array, requires_grad=True)


def tensors(tree):
    """Those in a tree that can have a gradient. (Of a state of arrays, what does not see the inputs stays an array.)"""
    return [x if isinstance(x, tg.Tensor) else tg.tensor(x) for x in trees.flatten(tree)[0] if has_gradient(x.dtype)]


def random_state(cell, batch, seed):
    """A state that is not the initial one. Clocks and numbers of steps differ between sequences; they are constants."""
    seeds = iter(range(seed, seed + 50))

    def moved(s):
        if s.shape[-1] == 1:
            return tg.tensor(s.data + np.arange(batch, dtype=s.dtype)[:, None])
        return leaf(s.data + draw(*s.shape, seed=next(seeds)))

    return trees.map(moved, cell.initial_state(np.zeros((batch, cell.input_size))))


class Case:
    """A model, the inputs, a state to start from. All leaves are in ``leaves``."""

    def __init__(self, name, layout="cell", time=T, batch=B):
        first = make(name)
        if layout == "cell":
            self.model, self.state = first, random_state(first, batch, 100)
        elif layout == "layers":
            second = make(name, output_size(first), 1)
            self.model, cells = Recurrent([first, second]), (first, second)
            self.state = [random_state(cell, batch, seed) for cell, seed in zip(cells, (100, 200))]
        else:
            second = make(name, seed=1)
            self.model, cells = Recurrent([first], bidirectional=[second]), (first, second)
            self.state = [tuple(random_state(cell, batch, seed) for cell, seed in zip(cells, (100, 200)))]
        self.layout, self.cells = layout, (first,) if layout == "cell" else cells
        self.xs = leaf(draw(time, batch, I))
        self.parameters = [*self.model.parameters()]
        self.leaves = [self.xs, *[x for x in tensors(self.state) if x.requires_grad], *self.parameters]
        self.seeds = [(rng, rng.bit_generator.state) for rng in drawn_from(self.model)]

    def reseed(self):
        for rng, state in self.seeds:
            rng.bit_generator.state = state

    def run(self, way, state):
        """The outputs and the states, in the way of that name."""
        _, run, options = WAYS[way]
        self.reseed()
        return run(self.model, self.xs, state, **options) if run else self.model(self.xs, state, **options)

    def zeros(self):
        """Explicit zeros for each number of the first state. (Masks that are drawn are not zeros.)"""
        self.reseed()

        def zeros(cell):
            start = cell.initial_state(np.zeros((self.xs.shape[1], cell.input_size)))
            return trees.map(lambda s: s if s.data.any() else np.zeros(s.shape, s.dtype), start)

        states = [zeros(cell) for cell in self.cells]
        return {"cell": states[0], "layers": states, "bidirectional": [tuple(states)]}[self.layout]

    def start(self, kind):
        return {"state": self.state, "none": None, "zeros": self.zeros()}[kind]


LENGTHS = [3, T, 0]
MASK = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 0]], bool)
RESET = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]], bool)
PADDED = {"lengths": {"lengths": LENGTHS}, "mask and reset": {"mask": MASK, "reset": RESET}}
ALL = {"mask": MASK, "reset": RESET, "reverse": True, "states": True}

WAYS = {  # the layout, what runs it, the options
    "scan": ("cell", tg.scan, {"states": True}),
    "lengths": ("cell", tg.scan, {"lengths": LENGTHS}),
    "mask": ("cell", tg.scan, {"mask": MASK}),
    "reset": ("cell", tg.scan, {"reset": RESET}),
    "reverse": ("cell", tg.scan, {"reverse": True}),
    "all-options": ("cell", tg.scan, ALL),
    "layers": ("layers", None, {}),
    "layers-lengths": ("layers", None, {"lengths": LENGTHS}),
    "bidirectional": ("bidirectional", None, {}),
    "bidirectional-mask": ("bidirectional", None, {"mask": MASK}),
    "bidirectional-reset": ("bidirectional", None, {"reset": RESET}),
    "checkpointed": ("cell", checkpointed, {"every": 2}),
    "checkpointed-all-options": ("cell", checkpointed, {"every": 2, **ALL}),
}
WINDOWS = {"chunk": (T, T), "sliding": (2, T), "longer": (1, T + 2)}  # k1 and k2 of truncated: nothing is cut


def loss_of(outputs):
    """A number in which each output and each number of a state counts differently, and whatever is at padding, too."""
    return sum((weights(i, x.shape) * tg.sin(x)).sum() for i, x in enumerate(tensors(outputs)))


def error(y, t):
    """That of the output of one step; the sum of these is loss_of(ys)."""
    return (weights(0, (T, *y.shape))[t] * tg.sin(y)).sum()


def errors(ys, steps):
    return (weights(0, (T, *ys.shape[1:]))[steps] * tg.sin(ys)).sum()


def outcome(case, outputs, order=1):
    """Values, and gradients with regard to all leaves; of the second order along a direction."""
    outputs = tensors(outputs)
    gs = tg.gradients(loss_of(outputs), case.leaves, create_graph=order > 1)
    values = [x.data for x in (*outputs, *gs)]
    if order > 1:
        turned = sum((g * weights(20, g.shape)).sum() for g in gs)
        values += [g.data for g in tg.gradients(turned, case.leaves)]
    return values


def equal(actual, expected):
    """To rounding, which is that of the largest number in each part."""
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        allowed = EXACT * max(1, np.abs(e).max(initial=0))
        np.testing.assert_allclose(a, e, rtol=EXACT, atol=allowed, err_msg=f"part {i}")


def stepped(case, steps, replayed=True):
    """The total loss of truncated or rtrl, and the gradients in .grad then. A window draws what the last did."""
    for x in case.leaves:
        x.grad = None
    total, step = 0.0, None
    while True:
        if replayed:
            case.reseed()
        if (step := next(steps, None)) is None:
            break
        total += step.loss.item()
    found = [np.zeros(x.shape) if x.grad is None else x.grad.data for x in case.leaves]
    return total, found


def in_windows(case, window, state, **options):
    return stepped(case, truncated(case.model, case.xs, errors, *WINDOWS[window], state=state, **options))


def forward_mode(case, state, **options):
    case.reseed()
    return stepped(case, rtrl(case.model, case.xs, error, state=state, **options), replayed=False)


# Gradients against differences ----------------------------------------------------------------------------------------


def directions(leaves, rng):
    return [rng.standard_normal(x.shape) / np.sqrt(sum(x.size for x in leaves)) for x in leaves]


def dot(gs, direction):
    return sum(float(np.sum(getattr(g, "data", g) * d)) for g, d in zip(gs, direction))


def slope(f, leaves, direction, h):
    """The derivative of f() along a direction of all leaves at once, by differences: Richardson's extrapolation."""
    at = [x.data.copy() for x in leaves]

    def moved(t):
        for x, a, d in zip(leaves, at, direction):
            x.data = a + t * d
        return f()

    wide, narrow = [(moved(t) - moved(-t)) / (2 * t) for t in (h, h / 2)]
    moved(0)
    return (4 * narrow - wide) / 3


def check_slope(gs, f, leaves, direction, about):
    """Compare gradients with differences. (The second step is for functions that bend much.)"""
    got, scale = dot(gs, direction), sum(float(np.abs(getattr(g, "data", g) * d).sum()) for g, d in zip(gs, direction))
    assert scale > 1e-3, f"{about}: there is nothing to see in this direction"
    for h in (2.0**-10, 2.0**-13):
        expected = slope(f, leaves, direction, h)
        if abs(got - expected) <= 1e-8 * scale:
            return
    raise AssertionError(f"{about}: expected {expected!r}, got {got!r}, the sum of terms that amount to {scale:.3g}")


def check_direction(f, leaves, rng):
    """Check the gradients of f(), of first and second order, along random directions of all leaves at once."""
    d, v = directions(leaves, rng), directions(leaves, rng)
    gs = tg.gradients(f(), leaves, create_graph=True)
    second = tg.gradients(sum((g * v).sum() for g, v in zip(gs, v)), leaves)
    check_slope(gs, lambda: f().item(), leaves, d, "first order")
    check_slope(second, lambda: dot(tg.gradients(f(), leaves), v), leaves, d, "second order")


@each_true_cell
@pytest.mark.parametrize("way", WAYS)
def test_whole_loops_differentiate(way, name):
    case = Case(name, WAYS[way][0])
    check_direction(lambda: loss_of(case.run(way, case.state)), case.leaves, np.random.default_rng(7))


@each_true_cell
def test_what_accumulates_is_the_slope(name):
    """The gradients that truncated and rtrl leave in .grad."""
    case = Case(name)
    d = directions(case.leaves, np.random.default_rng(7))
    for window in WINDOWS:
        _, gs = in_windows(case, window, case.state)
        check_slope(gs, lambda w=window: in_windows(case, w, case.state)[0], case.leaves, d, window)


# What must be equal, is -----------------------------------------------------------------------------------------------


@each_cell
@pytest.mark.parametrize("way", WAYS)
def test_no_state_is_zeros(way, name):
    case = Case(name, WAYS[way][0])
    zeros = case.zeros()
    assert name in RANDOM or not any(s.any() for s in trees.flatten(zeros)[0])
    equal(outcome(case, case.run(way, zeros)), outcome(case, case.run(way, None)))


@each_cell
@pytest.mark.parametrize(("window", "start"), [("chunk", "state"), ("sliding", "state"), ("longer", "state"),
                                               ("sliding", "none"), ("sliding", "zeros")])  # fmt: skip
def test_windows_that_cut_nothing_are_the_tape(window, start, name):
    case = Case(name)
    state = case.start(start)
    case.reseed()
    loss = errors(tg.scan(case.model, case.xs, state)[0], slice(0, T))
    _, gs = in_windows(case, window, state)
    equal(gs, [g.data for g in tg.gradients(loss, case.leaves)])


@each_cell
@pytest.mark.parametrize("options", PADDED.values(), ids=PADDED)
@pytest.mark.parametrize(("layout", "window"), [("cell", "sliding"), ("layers", "sliding"), ("bidirectional", "chunk")])
def test_windows_of_padded_batches_that_cut_nothing_are_the_tape(layout, window, options, name):
    case = Case(name, layout)
    case.reseed()
    run = case.model if layout != "cell" else partial(tg.scan, case.model)
    loss = errors(run(case.xs, case.state, **options)[0], slice(0, T))
    _, gs = in_windows(case, window, case.state, **options)
    equal(gs, [g.data for g in tg.gradients(loss, case.leaves)])


@each_cell
@pytest.mark.parametrize("way", [way for way, (layout, *_) in WAYS.items() if layout != "cell"])
def test_checkpointed_networks_are_the_networks(way, name):
    case, results = Case(name, WAYS[way][0]), []
    for checkpoint in (2, False):
        case.model.checkpoint = checkpoint
        results.append(outcome(case, case.run(way, case.state)))
        results[-1] += [rng.random(3) for rng, _ in case.seeds]
    equal(*results)


class Replay:
    """In place of a generator: what it draws is kept; or, given draws, they are what it draws."""

    def __init__(self, rng=None, draws=()):
        self.rng, self.draws = rng, [*draws]

    def random(self, shape, dtype):
        if self.rng is None:
            draw = self.draws.pop(0)
            assert draw.shape == tuple(shape)
            return draw
        self.draws.append(self.rng.random(shape, dtype))
        return self.draws[-1]


def replayed(module, generators):
    """Put them in the place of what a module draws from."""
    for part, rng in zip([m for m in module.modules() if hasattr(m, "rng")], generators, strict=True):
        part.rng = rng


def of_sequence(draws, first, b, positions, steps):
    """Those draws that concern sequence b: the first ones, before any step, and those of its steps, of so many."""
    each = (len(draws) - first) // steps
    chosen = [*range(first), *[first + each * p + j for p in positions for j in range(each)]]
    return [draws[i][b : b + 1] for i in chosen]


@each_cell
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("how", ["lengths", "mask"])
def test_a_padded_batch_is_its_sequences_one_by_one(how, reverse, name):
    case = Case(name)
    mask = np.arange(T)[:, None] < LENGTHS if how == "lengths" else MASK
    order = [t for t in (range(T)[::-1] if reverse else range(T)) if mask[t].any()]

    drawn = [Replay(rng) for rng, _ in case.seeds]
    replayed(case.model, drawn)
    case.model.initial_state(np.zeros((B, I)))
    first = [len(r.draws) for r in drawn]
    case.reseed()
    for r in drawn:
        r.draws.clear()
    ys, last = tg.scan(case.model, case.xs, case.state, reverse=reverse, **{how: LENGTHS if how == "lengths" else mask})
    batch = outcome(case, (ys, last))
    assert not ys.data[~mask].any()
    assert not batch[len(tensors((ys, last)))][~mask].any(), "a gradient with regard to padding"

    columns, lasts = [], []
    for b in range(B):
        times, state = np.flatnonzero(mask[:, b]), trees.map(lambda s, b=b: s[b : b + 1], case.state)
        y = np.zeros((0, 1, *ys.shape[2:]))
        if len(times):
            at = [p for p, t in enumerate(order) if mask[t, b]]
            replayed(case.model, [Replay(None, of_sequence(r.draws, n, b, at, len(order)))
                                  for r, n in zip(drawn, first)])  # fmt: skip
            y, state = tg.scan(case.model, case.xs[times, b : b + 1], state, reverse=reverse)
        back = np.where(mask[:, b], np.cumsum(mask[:, b]) - 1, len(times))  # each step's place in y, or that of a 0
        columns.append(tg.concatenate([y, np.zeros((1, 1, *ys.shape[2:]))])[back])
        lasts.append(state)
    together = trees.map(lambda *parts: tg.concatenate(parts), *lasts)
    equal(outcome(case, (tg.concatenate(columns, axis=1), together)), batch)


@each_cell
@pytest.mark.parametrize("way", [way for way, (*_, options) in WAYS.items() if {"mask", "lengths"} & options.keys()])
def test_what_padding_holds_is_never_seen(way, name):
    case = Case(name, WAYS[way][0])
    options = WAYS[way][2]
    padding = ~(options["mask"] if "mask" in options else np.arange(T)[:, None] < LENGTHS)
    results = []
    for filler in (0.0, np.nan):
        case.xs.data = np.where(padding[..., None], filler, case.xs.data)
        outputs = case.run(way, case.state)
        results.append(outcome(case, outputs))
        assert not results[-1][len(tensors(outputs))][padding].any(), "a gradient with regard to padding"
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@each_cell
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_resets_are_separate_sequences(reverse, name):
    """What is random draws for all sequences at each reset: so it is reset in all at once."""
    case, random = Case(name), name in RANDOM
    reset = np.repeat(RESET[:, 2:], B, axis=1) if random else RESET
    case.reseed()
    ys, last = tg.scan(case.model, case.xs, case.state, reset=reset, reverse=reverse)
    packed = outcome(case, (ys, last))

    case.reseed()
    columns, lasts = [], []
    for b in [slice(0, B)] if random else [slice(b, b + 1) for b in range(B)]:
        cuts = np.flatnonzero(reset[:, b][:, 0])
        parts = [(i, j) for i, j in zip([0, *cuts], [*cuts, T]) if i < j]
        state = trees.map(lambda s, b=b: s[b], case.state)
        made = {}
        for i, j in parts[::-1] if reverse else parts:
            if made or (not reverse and i in cuts):
                state = None
            made[i], state = tg.scan(case.model, case.xs[i:j, b], state, reverse=reverse)
        columns.append(tg.concatenate([made[i] for i, _ in parts]))
        lasts.append(state)
    together = trees.map(lambda *parts: tg.concatenate(parts), *lasts)
    equal(outcome(case, (tg.concatenate(columns, axis=1), together)), packed)


@each_cell
def test_reverse_is_the_sequence_reversed(name):
    case = Case(name)
    plain = outcome(case, case.run("reverse", case.state))
    case.reseed()
    ys, last = tg.scan(case.model, tg.ops.flip(case.xs, axis=0), case.state)
    equal(outcome(case, (tg.ops.flip(ys, axis=0), last)), plain)


@each_cell
@pytest.mark.parametrize("way", ["layers", "layers-lengths"])
def test_layers_are_scans_of_scans(way, name):
    case = Case(name, "layers")
    layered = outcome(case, case.run(way, case.state))
    case.reseed()
    xs, last = case.xs, []
    for cell, state in zip(case.cells, case.state):
        xs, after = tg.scan(cell, xs, state, **WAYS[way][2])
        last.append(after)
    equal(outcome(case, (xs, last)), layered)


@each_cell
@pytest.mark.parametrize("way", ["bidirectional", "bidirectional-mask", "bidirectional-reset"])
def test_both_directions_are_two_scans(way, name):
    case = Case(name, "bidirectional")
    both = outcome(case, case.run(way, case.state))
    case.reseed()
    (forward, backward), ((a, b),), options = case.cells, case.state, WAYS[way][2]
    there, a = tg.scan(forward, case.xs, a, **options)
    back, b = tg.scan(backward, case.xs, b, reverse=True, **options)
    equal(outcome(case, (tg.concatenate([there, back], axis=-1), a, b)), both)


@each_cell
@pytest.mark.parametrize("way", ["scan", "lengths", "mask", "reset", "reverse", "all-options"])
def test_segments_are_the_scan(way, name):
    case, (_, _, options) = Case(name), WAYS[way]
    results = []
    for run in (partial(checkpointed, every=2), tg.scan):
        case.reseed()
        results.append(outcome(case, run(case.model, case.xs, case.state, **options), order=2))
        results[-1] += [rng.random(3) for rng, _ in case.seeds]  # the generators are where they would be
    equal(*results)


@each_cell
@pytest.mark.parametrize("start", ["state", "none", "zeros"])
def test_forward_mode_is_the_tape(start, name):
    check_forward_mode(Case(name, time=3, batch=2), start)


@each_cell
@pytest.mark.parametrize("options", [{"lengths": [3, 0]}, {"mask": MASK[1:4, :2], "reset": RESET[1:4, :2]}],
                         ids=["lengths", "mask and reset"])  # fmt: skip
def test_forward_mode_of_padded_batches_is_the_tape(options, name):
    check_forward_mode(Case(name, time=3, batch=2), "state", **options)


def check_forward_mode(case, start, **options):
    state = case.start(start)
    case.reseed()
    ys, _ = tg.scan(case.model, case.xs, state, **options)
    loss = sum(error(y, t) for t, y in enumerate(tg.ops.unstack(ys)))
    total, (_, *gs) = forward_mode(case, state, **options)  # the inputs are constants for it
    equal([total, *gs], [loss.item(), *[g.data for g in tg.gradients(loss, case.leaves[1:])]])
