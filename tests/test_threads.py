"""Threads: graphs that share nothing do not disturb each other, and a mode belongs to its thread."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.modes import Observer, switched

THREADS, GRAPHS = 8, 200


@pytest.fixture(autouse=True)
def switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def bits(seed):
    """One graph, walked three times; the bytes of all that comes out."""
    rng = np.random.default_rng(seed)
    W, x = (tg.tensor(rng.normal(size=s), requires_grad=True) for s in [(3, 3), (4, 2, 3)])
    h = tg.tensor(np.zeros((2, 3)))
    for row in tg.unstack(x):
        h = tg.tanh(h @ W + row)
        with tg.no_grad():
            assert not (h * h).requires_grad
    loss = tg.logsumexp(h) + (h[:, ::-1] * h).mean() + tg.concatenate([h, h]).max()
    d = tg.gradients(loss, [W, x], create_graph=True)
    second = tg.gradients(sum((g * g).sum() for g in d), [W, x], retain_graph=True)
    loss.backward()
    return b"".join(a.data.tobytes() for a in (loss, *d, *second, W.grad, x.grad))


def test_independent_graphs_in_eight_threads_are_bit_equal_to_one():
    expected = [bits(seed) for seed in range(GRAPHS)]
    start = threading.Barrier(THREADS)

    def work(_):
        start.wait()
        return [bits(seed) for seed in range(GRAPHS)]

    with ThreadPoolExecutor(THREADS) as pool:
        for got in pool.map(work, range(THREADS)):
            assert got == expected


def test_modes_belong_to_their_thread():
    inside, leave = threading.Barrier(3), threading.Barrier(3)
    seen = {}

    def quiet():
        with tg.no_grad():
            inside.wait()
            seen["quiet"] = tg.is_recording(), (tg.tensor(1.0, requires_grad=True) * 2).requires_grad
            leave.wait()
        seen["afterwards"] = tg.is_recording()

    def watched():
        calls = []

        class Watch(Observer):
            def call(self, compute, op, inputs, keywords):
                calls.append(op.name)
                return compute(op, inputs, keywords)

        with switched(observer=Watch()):
            inside.wait()
            tg.tanh(np.ones(1))
            leave.wait()
        seen["calls"] = calls

    threads = [threading.Thread(target=f) for f in (quiet, watched)]
    for thread in threads:
        thread.start()
    inside.wait()
    seen["here"] = tg.is_recording()
    tg.exp(np.ones(1))
    leave.wait()
    for thread in threads:
        thread.join()
    assert seen == {"quiet": (False, False), "afterwards": True, "here": True, "calls": ["tanh"]}


def test_a_graph_made_in_one_thread_is_walked_in_another():
    x = tg.tensor(np.arange(3.0), requires_grad=True)
    y = (x * x).sum()
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join()
    assert x.grad.tolist() == [0.0, 2.0, 4.0]


def test_shared_weights_are_read_by_many_threads():
    """``gradients`` writes nowhere: threads may share weights, each with its own graph."""
    W = tg.tensor(np.random.default_rng(0).normal(size=(5, 5)), requires_grad=True)
    xs = np.random.default_rng(1).normal(size=(64, 5))

    def gradient(x):
        return tg.gradients(tg.tanh(x @ W).sum(), W).data

    expected = [gradient(x) for x in xs]
    with ThreadPoolExecutor(THREADS) as pool:
        for got, right in zip(pool.map(gradient, xs), expected):
            assert got.tobytes() == right.tobytes()
    assert W.grad is None


def test_positions_are_unique_across_threads():
    with ThreadPoolExecutor(THREADS) as pool:
        made = list(
            pool.map(lambda _: [tg.tensor(1.0, requires_grad=True).node.position for _ in range(500)], range(THREADS))
        )
    assert len({p for ps in made for p in ps}) == THREADS * 500
    assert all(ps == sorted(ps) for ps in made)
