"""Compiled scans against the tape: the same numbers, for every cell, in every way to run it, by each source."""

from __future__ import annotations

import gc
import importlib.util
import tracemalloc
import types

import numpy as np
import pytest
from test_matrix import CELLS, CUT, EXACT, WAYS, Case, outcome

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.compile import Untraceable, program_of, strips
from tinygrad_rnn.compile.numba_module import source_of

needs_numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="needs numba")
SOURCES = ["numpy", pytest.param("numba", marks=needs_numba)]
SOME = ["rnn-relu", "lstm", "lstm-projected", "gru-before-keeps", "clockwork", "own", "own-dict", "nested-lstm",
        "normalized-own", "timeskip-3-own"]  # fmt: skip


def same(name, way, mode, order=1):
    """Values, and gradients with regard to all leaves, are those of the tape."""
    results = []
    for compiled in (False, mode):
        with tg.compiled(compiled):
            case = Case(name, WAYS[way][0])
            results.append(outcome(case, case.run(way, case.state), order))
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=EXACT, atol=EXACT)


NEVER = {  # ways that have no program, and why
    ("variational", "reset"): "random numbers are drawn at each reset",
    ("nested", "reset"): "random numbers are drawn at each reset",
}


def reason(name, way):
    resets = "reset" in WAYS[way][2]
    return next((why for (part, _), why in NEVER.items() if resets and name.startswith(part)), None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*CELLS, *CUT])
def test_numpys_source_computes_what_the_tape_does(name, way):
    if why := reason(name, way):
        with pytest.raises(Untraceable, match=why):
            same(name, way, "numpy")
    else:
        same(name, way, "numpy")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*CELLS, *CUT])
def test_kernels_compute_what_the_tape_does_as_they_are_written(name, way, uncompiled):
    if not reason(name, way):
        same(name, way, "numba")


@needs_numba
@pytest.mark.parametrize("way", ["scan", "all-options"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SOME else pytest.mark.slow) for n in [*CELLS, *CUT]])
def test_kernels_compute_what_the_tape_does(name, way):
    if not reason(name, way):
        same(name, way, "numba")


@pytest.mark.parametrize("source", ["numpy", "numba"])
@pytest.mark.parametrize("name", [*CELLS, *CUT])
def test_strip_by_strip_it_is_the_same(name, source, monkeypatch, uncompiled):
    """Each of one step; and of three, the last of what is left."""
    monkeypatch.setattr(strips.Strips, "of", one_by_one)
    if not reason(name, "all-options"):
        same(name, "all-options", source)
    monkeypatch.setattr(strips.Strips, "of", in_threes)
    same(name, "scan", source)


def one_by_one(self, time, whole):
    pairs = [(t, t + 1) for t in range(time)] or [(0, 0)]
    return pairs[::-1] if self.loop.reverse else pairs


def in_threes(self, time, whole):
    pairs = [(t, min(t + 3, time)) for t in range(0, time, 3)] or [(0, 0)]
    return pairs[::-1] if self.loop.reverse else pairs


@pytest.mark.parametrize("few", [1, 400, 3000])
@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("source", ["numpy", "numba"])
@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.MinimalGatedCell])
def test_long_scans_go_in_strips(cell, source, recorded, few, monkeypatch, uncompiled):
    """Which have all steps, each once; and in evaluation, too, where nothing is kept for a way back."""
    monkeypatch.setattr(strips, "STRIP", few)
    made, cut = [], strips.Strips.of

    def noted(self, *arguments):
        made.append((self.loop.reverse, cut(self, *arguments)))
        return made[-1][1]

    monkeypatch.setattr(strips.Strips, "of", noted)
    keeps_all = cell is nn.LSTMCell and source == "numba" and recorded  # its kernels write nothing that is not kept
    cell = cell(3, 4, rng=0, dtype=np.float64)
    x = tg.tensor(np.random.default_rng(1).standard_normal((41, 2, 3)), requires_grad=recorded)
    results = []
    for compiled in (False, source):
        with tg.enable_grad() if recorded else tg.no_grad():
            ys, last = tg.scan(cell, x, compiled=compiled)
            found = tg.gradients((ys * ys).sum(), [x, *cell.parameters()]) if recorded else []
        results.append([ys, *(last if isinstance(last, tuple) else [last]), *found])
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got.data, expected.data, rtol=EXACT, atol=EXACT)
    assert len(made) == 1 + recorded
    assert any(len(pairs) > 1 for _, pairs in made) == (not keeps_all)
    for reverse, pairs in made:
        assert [t for pair in sorted(pairs) for t in range(*pair)] == [*range(41)]
        assert pairs == sorted(pairs, reverse=reverse)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_have_functions_that_are_right_everywhere(dtype):
    """tanh to some units in the last place, and both where NumPy's have no finite numbers; of kernels as written."""
    source = source_of([], [], dtype).replace("from numba import njit, types\n", "njit = lambda **_: lambda f: f\n")
    exec(source, space := {})
    real, exact = np.dtype(dtype).type, np.finfo(dtype).eps
    for x in [0.0, 1e-30, 1e-8, 0.3, 0.6249, 0.6251, 1.0, 2.5, 9.0, 19.9, 21.0, 300.0, np.inf]:
        for signed in (x, -x):
            tanh, sigmoid = space["tanh"](real(signed)), space["sigmoid"](real(min(max(signed, -80), 80)))
            np.testing.assert_allclose(tanh, np.tanh(signed), rtol=5 * exact, atol=0)
            np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-min(max(signed, -80), 80))), rtol=0, atol=2 * exact)
    assert np.isnan(space["tanh"](real(np.nan))) and np.isnan(space["sigmoid"](real(np.nan)))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell"])
def test_a_scan_takes_no_more_memory_than_the_tape(cell, source):
    cell, x = getattr(nn, cell)(32, 64, rng=0), tg.tensor(np.ones((200, 32, 32), np.float32), requires_grad=True)
    peaks = []
    for compiled in (False, source):
        for inputs in (x[:2], x):  # the first so that all is there, and compiled
            gc.collect()
            tracemalloc.start()
            ys, _ = tg.scan(cell, inputs, compiled=compiled)
            tg.gradients(ys.sum(), [inputs, *cell.parameters()])
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        peaks.append(peak)
    assert peaks[1] <= peaks[0]


@pytest.mark.parametrize("name", ["lstm", "gru-after-keeps", "own", "zoneout-lstm"])
@pytest.mark.parametrize("way", ["scan", "all-options", "layers-lengths"])
def test_the_second_order_goes_by_the_tape(name, way):
    same(name, way, "numpy", order=2)


@needs_numba
def test_where_nothing_else_is_left_the_loop_itself_is_compiled():
    """Products and kernels are; an operation that is neither leaves the loop to Python."""
    whole = program_of(nn.LSTMCell(3, 4, rng=0), np.ones((7, 2, 3), np.float32), backend="numba")
    for name, source in (("forward", whole.forward_source), ("backward", whole.backward_source)):
        assert f"    {name}_loop(T, " in source and "for t in" not in source

    def step(x, h):
        return h, np.cumsum(tg.tanh(x + h), axis=-1)

    mixed = program_of(step, np.ones((7, 2, 3)), np.ones((2, 3)), backend="numba")
    assert "for t in range(T):" in mixed.forward_source and "forward_0(t, " in mixed.forward_source


@pytest.mark.parametrize("source", SOURCES)
def test_a_state_that_becomes_a_constant_is_one_for_what_is_made_of_it(source):
    w = tg.tensor(np.array([0.3, -0.8]), requires_grad=True)
    x, start = np.ones((4, 3, 2)), (np.zeros((3, 2)), np.full((3, 2), 0.5))

    def step(x, state):
        h, _ = state
        constant = w + np.zeros((3, 2))
        return h, (tg.tanh(x + h * tg.tanh(constant)), constant)

    results = []
    for compiled in (False, source):
        ys, (h, c) = tg.scan(step, x, start, compiled=compiled)
        results.append([ys.data, h.data, c.data, tg.gradients((ys * ys).sum() + (h * c).sum(), w).data])
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_what_is_the_users_may_be_written_into_before_the_backward_pass(source, masked):
    """Inputs, a mask, a state, and an array that the cell holds."""

    class Masked(nn.RNNCell):
        def __init__(self):
            super().__init__(3, 4, rng=0, dtype=np.float64)
            self.gain = np.linspace(0.5, 1.5, 4)

        def step(self, x, h):
            y, h = super().step(x, h)
            return y * self.gain, h

    def gradients(compiled):
        rng = np.random.default_rng(1)
        cell, x, start = Masked(), rng.standard_normal((9, 2, 3)), rng.standard_normal((2, 4))
        mask = rng.random((9, 2)) < 0.6
        mask[:, 0] = True
        ys, h = tg.scan(cell, x, start, mask=mask if masked else None, compiled=compiled)
        for array in (x, start, cell.gain):
            array[:] = 0
        mask[:] = ~mask
        return tg.gradients((ys * ys).sum() + h.sum(), [*cell.parameters()])

    for expected, got in zip(gradients(False), gradients(source), strict=True):
        np.testing.assert_allclose(got.data, expected.data, rtol=EXACT, atol=EXACT)


# Arrays that belong to a module or a class: a copy of the step has them, too

GAIN = np.array([0.5])


def gained(h):
    return (1 - GAIN) * h


class Gained(nn.Cell):
    gain = np.array([0.5])

    def __init__(self):
        self.input_size = self.state_size = 3
        self.w = nn.Parameter(np.ones(3))

    def step(self, x, h):
        h = tg.tanh(x + self.gained(h) * self.w)
        return h, h


MODULE = types.ModuleType("gains")
MODULE.gain = np.array([0.5])
METHODS = {
    "as it is": lambda self, h: GAIN * h,
    "computed": lambda self, h: np.sqrt(GAIN) * h,
    "an element": lambda self, h: GAIN[0] * h,
    "a number": lambda self, h: GAIN.item() * h,
    "in a helper": lambda self, h: gained(h),
    "of the class": lambda self, h: self.gain[0] * h,
    "of a module": lambda self, h: MODULE.gain[0] * h,
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_numbers_of_a_module_or_a_class_are_those_of_now(method):
    """What NumPy computes from them is in the program: of other numbers another one is made."""
    cell = type("Another", (Gained,), {"gained": method})()
    xs = np.random.default_rng(0).standard_normal((40, 2, 3))
    for value in 0.5, 0.1:
        for array in GAIN, Gained.gain, MODULE.gain:
            array[0] = value
        found = []
        for mode in "numpy", False:
            ys, _ = tg.scan(cell, xs, compiled=mode)
            found += [ys.data, tg.gradients((ys**2).sum(), cell.w).data]
        np.testing.assert_allclose(found[0], found[2], rtol=1e-12)
        np.testing.assert_allclose(found[1], found[3], rtol=1e-12)


def test_numbers_that_a_function_has_closed_over_are_traced():
    """It is copied, with something else in their place: what is computed from them is read anew, a number refused."""
    gain = np.array([0.5])

    def step(x, h):
        h = tg.tanh(x + (1 - gain) * h)
        return h, h

    xs, h = np.random.default_rng(0).standard_normal((40, 2, 3)), np.zeros((2, 3))
    for gain[0] in 0.5, 0.1:
        ys, _ = tg.scan(step, xs, h, compiled="numpy")
        np.testing.assert_allclose(ys.data, tg.scan(step, xs, h, compiled=False)[0].data, rtol=1e-12)
    with pytest.raises(Untraceable, match="a number is asked for"):
        tg.scan(lambda x, h: (x, h * gain.item()), xs, h, compiled="numpy")


TABLE = {"gain": np.array([0.5])}


class Tabled(Gained):
    def __init__(self):
        super().__init__()
        self.table = TABLE  # what the cell has of its own is copied; what its method refers to is not

    def gained(self, h):
        return self.table["gain"] * TABLE["gain"][0] * h


def test_what_a_cell_shares_with_its_module_is_looked_at_as_both():
    cell, xs = Tabled(), np.random.default_rng(0).standard_normal((40, 2, 3))
    for TABLE["gain"][0] in 0.9, 0.1:
        ys, _ = tg.scan(cell, xs, compiled="numpy")
        np.testing.assert_allclose(ys.data, tg.scan(cell, xs, compiled=False)[0].data, rtol=1e-12)
