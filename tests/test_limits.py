"""Long tapes, wide ones, and many steps: no recursion, no growth, and no work that grows with what came before."""

import gc
import sys
import time
import tracemalloc
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg

LONG = 100_000


@pytest.fixture(autouse=True)
def usual_recursion_limit():
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # Python's own
    yield
    sys.setrecursionlimit(before)


def chain(n, step=lambda y: y + 1.0):
    x = tg.tensor(0.5, requires_grad=True)
    y = x
    for _ in range(n):
        y = step(y)
    return x, y


# Depth and width ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [LONG, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_long_chain(n):
    x, y = chain(n)
    assert y.item() == 0.5 + n
    y.backward()
    assert x.grad.item() == 1.0


@pytest.mark.parametrize("step", [tg.tanh, lambda y: tg.unstack(tg.stack([y, y]))[0], lambda y: tg.stack([y]).sum()])
def test_long_chains_of_other_kinds_of_entries(step):
    x, y = chain(20_000, step)
    y.backward()
    assert np.isfinite(x.grad.item())


def test_a_long_chain_is_freed_unwalked():
    _, y = chain(LONG)
    ref = weakref.ref(tg.tape(y)[LONG // 2])
    assert ref() is not None
    del y
    assert ref() is None


def test_a_long_chain_is_freed_by_the_collector():
    """Part of a cycle that a user made: the collector takes the chain apart, without recursion."""
    _, y = chain(LONG)
    ref = weakref.ref(y.node)
    cycle = [y]
    cycle.append(cycle)
    del y, cycle
    gc.collect()
    assert ref() is None


def test_a_long_chain_after_an_error():
    @tg.primitive
    def broken(x):
        return x * 1.0

    broken.vjp(lambda g: 1 / 0)
    x, y = chain(LONG, lambda y: y + 1.0)
    z = broken(x)
    for _ in range(LONG):
        z = z + 1.0
    with pytest.raises(ZeroDivisionError):
        (y + z).backward()
    del y, z
    assert x.grad is None
    (x * 2.0).backward()
    assert x.grad.item() == 2.0


def test_looking_at_a_long_chain():
    x, y = chain(LONG)
    tape = tg.tape(y)
    assert len(tape) == LONG + 1
    assert len(str(tape).splitlines()) == 62
    assert repr(y) == "tensor(100000.5, from=add)"
    assert tape.nbytes() == 0
    assert tape.to_dot().count("->") == LONG
    del y
    assert len(tape) == LONG + 1  # the tape itself holds its entries
    assert x.grad is None


def test_a_long_chain_is_walked_by_gradients_and_again():
    x, y = chain(LONG)
    assert tg.gradients(y, x, retain_graph=True).item() == 1.0
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 2.0
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_a_second_order_of_a_long_chain():
    x, y = chain(20_000, lambda y: tg.sin(y))
    d = tg.gradients(y, x, create_graph=True)
    h = tg.gradients(d, x)
    assert np.isfinite(h.item())


def test_a_wide_fan_out():
    x = tg.tensor(2.0, requires_grad=True)
    h = x * 3.0
    total = tg.stack([h * 1.0 for _ in range(LONG)]).sum()
    total.backward()
    assert x.grad.item() == 3.0 * LONG


def test_a_wide_fan_out_one_by_one():
    x = tg.tensor(2.0, requires_grad=True)
    y = x * 0.0
    for _ in range(LONG // 2):
        y = y + x
    y.backward()
    assert x.grad.item() == LONG // 2


def test_a_deep_ladder():
    """Each rung uses the last one twice: 2 ** 50,000 paths, 100,000 entries."""
    x, y = chain(LONG // 2, lambda y: (y + y) * 0.5)
    y.backward()
    assert x.grad.item() == 1.0


def test_many_leaves():
    xs = [tg.tensor(1.0, requires_grad=True) for _ in range(20_000)]
    sum(xs).backward()
    assert all(x.grad.item() == 1.0 for x in xs)
    assert len(tg.gradients(sum(xs), xs)) == 20_000


def test_a_long_sequence_through_unstack():
    xs = tg.tensor(np.ones((LONG // 5, 2)), requires_grad=True)
    total = tg.tensor(np.zeros(2))
    for x in xs:
        total = total * 0.5 + x
    total.sum().backward()
    assert xs.grad.data[-1].tolist() == [1.0, 1.0]
    assert xs.grad.data[-2].tolist() == [0.5, 0.5]


# Cost -----------------------------------------------------------------------------------------------------------------


def test_a_step_costs_the_same_early_and_late():
    """The best of twenty runs of 200 steps at the beginning, and after 50,000: a cost that grew would be far off."""
    W = tg.tensor(np.eye(4), requires_grad=True)

    def steps(h):
        start = time.perf_counter()
        for _ in range(200):
            h = tg.tanh(h @ W)
        return h, time.perf_counter() - start

    h, times = tg.tensor(np.ones(4)), []
    gc.disable()  # whose work does grow with the number of objects
    try:
        for _ in range(250):
            h, seconds = steps(h)
            times.append(seconds)
    finally:
        gc.enable()
    assert min(times[-20:]) < 3 * min(times[:20])


def test_an_entry_is_small():
    x = tg.tensor(0.5, requires_grad=True)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        y = x
        for _ in range(10_000):
            y = y + 1.0
        after, _ = tracemalloc.get_traced_memory()
        assert after - before < 500 * 10_000
        tracemalloc.reset_peak()
        y.backward()
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 800 * 10_000
        del y
        end, _ = tracemalloc.get_traced_memory()
        assert end - before < 200_000  # Python keeps 2,000 free tuples for later
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_walk_is_that_of_a_few_arrays():
    """What was kept is let go as the walk passes: it needs a few arrays more than the forward, not as many again."""
    x = tg.tensor(np.zeros(10_000), requires_grad=True)
    tracemalloc.start()
    try:
        y = x
        for _ in range(50):
            y = tg.tanh(y)
        loss = y.sum()
        del y
        held, _ = tracemalloc.get_traced_memory()
        assert held > 50 * 80_000
        assert held < 52 * 80_000
        tracemalloc.reset_peak()
        loss.backward()
        after, peak = tracemalloc.get_traced_memory()
        assert peak < held + 6 * 80_000
        assert after < 3 * 80_000
    finally:
        tracemalloc.stop()


def test_add_and_sum_keep_no_arrays():
    x = tg.tensor(np.zeros(10_000), requires_grad=True)
    y = ((x + 1.0 - x + (-x)).reshape(100, 100).T).sum()
    assert tg.tape(y).nbytes() == 0


@pytest.mark.parametrize("steps", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_training_does_not_grow(steps):
    """A recurrent network over twenty steps, its state carried over, the loss logged; without the cyclic collector."""
    rng = np.random.default_rng(0)
    W, U, b = (tg.tensor(rng.normal(size=s) * 0.3, requires_grad=True) for s in [(4, 4), (3, 4), (4,)])
    xs = rng.normal(size=(20, 2, 3))
    state, log, nodes = tg.tensor(np.zeros((2, 4))), np.zeros(steps + 100), []

    def train(i):
        nonlocal state
        h, loss = state.detach(), 0.0
        for x in xs:
            h = tg.tanh(h @ W + x @ U + b)
            loss = loss + (h * h).mean()
        loss.backward()
        for p in (W, U, b):
            p.data = p.data - 0.01 * p.grad.data
            p.grad = None
        state, log[i] = h, loss.item()
        nodes.append(weakref.ref(loss.node))

    gc.collect()
    gc.disable()
    try:
        for i in range(100):
            train(i)
        nodes.clear()
        tracemalloc.start()
        train(100)
        nodes.clear()
        before, _ = tracemalloc.get_traced_memory()
        for i in range(101, steps + 100):
            train(i)
            assert nodes[-1]() is None
            nodes.clear()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before <= 64 * 1024
    assert log[-1] < log[0]
