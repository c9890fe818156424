"""The backward loop that is derived for the Elman cell, held against the lectures' procedure, RNNBACK."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import bptt, nn
from tinygrad_rnn.compile import program_of

TIME, BATCH, FEATURES, HIDDEN, OUTPUTS = 7, 2, 3, 4, 5


class ElmanCell(nn.Cell):
    """The lectures' equations, in their names: z_h, h, z_s, o."""

    def __init__(self, features, hidden, outputs, f_h=tg.tanh, f_s=lambda z: z, rng=None):
        rng = np.random.default_rng(rng)
        self.input_size, self.state_size, self.f_h, self.f_s = features, hidden, f_h, f_s
        sizes = (hidden, features), (hidden, hidden), (outputs, hidden), hidden, outputs
        self.W_e, self.W_h, self.W_s, self.b_e, self.b_s = [nn.Parameter(rng.standard_normal(n)) for n in sizes]

    def step(self, X, h):
        z_h = X @ self.W_e.T + h @ self.W_h.T + self.b_e
        h = self.f_h(z_h)
        z_s = h @ self.W_s.T + self.b_s
        o = self.f_s(z_s)
        return o, h


FUNCTIONS = {"identity": lambda z: z, "tanh": tg.tanh, "sigmoid": tg.sigmoid, "relu": tg.relu, "softmax": tg.softmax}

# What the lectures do at each t, from the last to the first (FUNCTIONS["tanh"]: f'(z) = 1 - h², known before):
#
#     dh(t) += W_s.T @ dz_s          dz_h = f_h'(z_h(t)) dh(t)          dh(t-1) = W_h.T @ dz_h
#
# The other six statements wait for no other step. So dz_s and W_s.T @ dz_s are computed before the loop, for all t at
# once; and what is summed up over t, after it: as one product each.
RNNBACK = """\
def backward(T, W_e, W_h, W_s, X, h, g_z_s, dh_next, g_z_s_W_s, times, minus, dh, dz_h, dX):
    # W_e: 4×3, W_h: 4×4, W_s: 5×4, X: T×2×3, h: (T+1)×2×4, g_z_s: T×2×5, dh_next: 2×4, g_z_s_W_s: T×2×4,
    # times: T×2×4, minus: T×2×4, dh: 2×4, dz_h: T×2×4, dX: T×2×3
    np.matmul(g_z_s.reshape(-1, 5), W_s, out=g_z_s_W_s.reshape(-1, 4))
    np.multiply(h[1:], h[1:], out=times)
    np.subtract(1, times, out=minus)
    for t in reversed(range(T)):
        np.add(dh_next, g_z_s_W_s[t], out=dh)
        np.multiply(dh, minus[t], out=dz_h[t])
        np.matmul(dz_h[t], W_h, out=dh_next)
    np.matmul(dz_h.reshape(-1, 4), W_e, out=dX.reshape(-1, 3))
    dW_e = dz_h.reshape(-1, 4).T @ X.reshape(-1, 3)
    dW_h = dz_h.reshape(-1, 4).T @ h[:-1].reshape(-1, 4)
    dW_s = g_z_s.reshape(-1, 5).T @ h[1:].reshape(-1, 4)
    db_e = dz_h.sum(axis=0).sum(axis=-2)
    db_s = g_z_s.sum(axis=0).sum(axis=-2)
    return dX, dh_next, dW_e, dW_h, dW_s, db_e, db_s
"""


def given(rng):
    """Inputs, first states, and targets."""
    return [rng.standard_normal(n) for n in ((TIME, BATCH, FEATURES), (BATCH, HIDDEN), (TIME, BATCH, OUTPUTS))]


def by_hand(cell, X, h0, y, f_h, f_s):
    """RNNBACK, sequence by sequence; what belongs to a weight is summed up."""
    weights = [p.numpy() for p in (cell.W_e, cell.W_h, cell.W_s, cell.b_e, cell.b_s)]
    found = [bptt.rnn_back(X[:, n], y[:, n], h0[n], weights, f_h, f_s) for n in range(BATCH)]
    *summed, first = zip(*found)
    return [*map(sum, summed), np.stack(first)]


def run(program, cell, X, h0, y):
    """What the printed sources compute: they are executed, and nothing else."""
    arrays = {name: p.numpy() for name, p in vars(cell).items() if isinstance(p, nn.Parameter)}
    for loop in (program.forward, program.backward):
        arrays |= {name: place.made(TIME) for name, place in loop.buffers.items()}
    space = {"np": np, "sigmoid": into(tg.sigmoid)}
    exec(program.forward_source + program.backward_source, space)
    arrays |= {"X": X}
    arrays["h"][0] = h0
    o, _ = space["forward"](TIME, *[arrays[name] for name in program.arguments["forward"]])
    [g] = [name for name in program.arguments["backward"] if name.startswith("g_") and name not in arrays]
    arrays |= {g: o - y}
    arrays["dh_next"][...] = 0
    _, dh0, *found = space["backward"](TIME, *[arrays[name] for name in program.arguments["backward"]])
    return [*found, dh0]


def into(function):
    def written(*args, out):
        out[...] = function(*args)

    return written


@pytest.mark.parametrize("f_s", ["identity", "tanh", "sigmoid", "softmax"])
@pytest.mark.parametrize("f_h", ["tanh", "sigmoid", "relu", "identity"])
def test_the_printed_program_computes_what_rnnback_does(f_h, f_s):
    rng = np.random.default_rng(0)
    cell, (X, h0, y) = ElmanCell(FEATURES, HIDDEN, OUTPUTS, FUNCTIONS[f_h], FUNCTIONS[f_s], rng), given(rng)
    cell.W_h.data = 0.3 * cell.W_h.data
    found = run(program_of(cell, X, h0, backend="numpy"), cell, X, h0, y)
    for mine, expected in zip(found, by_hand(cell, X, h0, y, f_h, f_s), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-12)


def test_and_so_do_scans_by_it_and_the_tape():
    rng = np.random.default_rng(1)
    cell, (X, h0, y) = ElmanCell(FEATURES, HIDDEN, OUTPUTS, rng=rng), given(rng)
    start = tg.tensor(h0, requires_grad=True)
    wanted = [cell.W_e, cell.W_h, cell.W_s, cell.b_e, cell.b_s, start]
    for compiled in ("numpy", False):
        o, _ = tg.scan(cell, X, start, compiled=compiled)
        found = tg.gradients(((o - y) ** 2).sum() / 2, wanted)
        for mine, expected in zip(found, by_hand(cell, X, h0, y, "tanh", "identity"), strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-12)


def test_its_loop_is_the_lectures_statement_by_statement():
    cell, (X, h0, _) = ElmanCell(FEATURES, HIDDEN, OUTPUTS, rng=0), given(np.random.default_rng(0))
    assert program_of(cell, X, h0, backend="numpy").backward_source == RNNBACK


def test_before_the_passes_each_statement_of_the_lectures_is_a_line():
    cell, (X, h0, _) = ElmanCell(FEATURES, HIDDEN, OUTPUTS, rng=0), given(np.random.default_rng(0))
    traced = program_of(cell, X, h0, backend="numpy").steps["traced"]
    lines = [line.split(":")[0] for line in traced.split("\n\n")[1].splitlines()]
    lectures = [  # with dz_s = dE/do, as o = z_s
        "db_s = sum(g_z_s, axis=(-2,), keepdims=False)",  # db_s += dz_s
        "h_g_z_s = matmul(h_T, g_z_s)",  # dW_s += dz_s h(t).T
        "dW_s = swap(h_g_z_s)",
        "g_z_s_W_s = matmul(g_z_s, W_s)",  # dh(t) += W_s.T dz_s
        "dh = add(dh_next, g_z_s_W_s)",
        "dz_h = multiply(dh, minus)",  # dz_h = f_h'(z_h) dh(t), where f_h'(z_h) is 1 - h h
        "X_dz_h = matmul(X_T, dz_h)",  # dW_e += dz_h X(t).T
        "dW_e = swap(X_dz_h)",
        "db_e = sum(dz_h, axis=(-2,), keepdims=False)",  # db_e += dz_h
        "h_dz_h = matmul(h_T, dz_h)",  # dW_h += dz_h h(t-1).T
        "dW_h = swap(h_dz_h)",
        "dh = matmul(dz_h, W_h)",  # dh(t-1) = W_h.T dz_h
    ]
    assert set(lectures) <= set(lines)
    views = {"h_T = swap(h)", "X_T = swap(X)", "g_z_s", "dh_next", "-> dX, dh, dW_e, dW_h, dW_s, db_e, db_s"}
    factors = {"times = multiply(h, h)", "minus = subtract(1, times)"}
    assert {*lines} - {*lectures} == views | factors | {"dX = matmul(dz_h, W_e)"}
