"""A process that computes with one framework: it reads tasks from standard input and writes figures, a JSON line each.

A task is a function of a framework, and of sizes, that returns its figures: seconds, megabytes, or plain numbers.
"""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from time import perf_counter
from typing import Any

import numpy as np

from .frameworks import FRAMEWORKS, ByHand, Framework

MB = 1e6


def serve(name: str) -> None:
    """Say what there is, then answer one task after the other, until there are no more."""
    answers = sys.stdout
    with redirect_stdout(sys.stderr):  # whatever a framework prints is no answer

        def answer(compute: Callable, *args: Any, **sizes: Any) -> Any:
            try:
                result, figures = compute(*args, **sizes)
            except Exception as error:
                result, figures = None, {"failed": failure(error)}
            print(json.dumps(figures), file=answers, flush=True)
            return result

        framework = answer(introduce, name)
        for line in sys.stdin:
            answer(lambda task, **sizes: (None, TASKS[task](framework, **sizes)), **json.loads(line))


def introduce(name: str) -> tuple[Framework | None, dict]:
    kind = FRAMEWORKS[name]
    try:
        framework = kind()
    except ModuleNotFoundError as error:
        if error.name != kind.module:
            raise
        return None, {"failed": "not installed"}
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "its BLAS": f"{blas['name']} {blas['version']}",
        kind.module: getattr(framework.library, "__version__", None) or importlib.metadata.version(kind.module),
    }
    return framework, versions


def failure(error: Exception) -> str:
    """What went wrong, in one short line."""
    first = str(error).partition("\n")[0][:80]
    return first if isinstance(error, NotImplementedError) else f"{type(error).__name__}: {first}"


# Tools ---------------------------------------------------------------------------------------------------------------


@functools.cache
def lstm_arrays(T: int, B: int, I: int, H: int) -> list[np.ndarray]:  # noqa: E741  the sizes' usual names
    """The inputs, the weights and the bias of an LSTM."""
    rng = np.random.default_rng(0)
    shapes = [(T, B, I), (I, 4 * H), (H, 4 * H), (4 * H,)]
    scales = [1, I**-0.5, H**-0.5, 0.1]
    return [(scale * rng.standard_normal(shape)).astype(np.float32) for scale, shape in zip(scales, shapes)]


@functools.cache
def lstm_leaves(framework: Framework, **sizes: int) -> list:
    return framework.leaves(lstm_arrays(**sizes))


def timed(compute: Callable, seconds: float = 0.2, least: int = 3) -> float:
    """The median time of a call, of as many as these seconds have room for. Only if it is long does the first count."""
    times = []
    while len(times) < least + 1 or sum(times) < seconds:
        start = perf_counter()
        compute()
        times.append(perf_counter() - start)
        if times[0] > 10 * seconds:
            return times[0]
    return statistics.median(times[1:])


@contextmanager
def collector_paused() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def peak_mb() -> float:
    """The most memory that this process has had at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / MB


def memory_mb() -> float:
    """The memory that this process has now (Linux; elsewhere, the most that it has had)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB
    except OSError:
        return peak_mb()


# Tasks ---------------------------------------------------------------------------------------------------------------


def check(framework: Framework, order: int, **sizes: int) -> dict:
    """How far the LSTM's gradients are from those by hand (of the second order: by hand, and a complex step)."""
    arrays, leaves, step = lstm_arrays(**sizes), lstm_leaves(framework, **sizes), 1e-20
    exact = ByHand().lstm_gradients([array.astype(np.float64) for array in arrays])
    if order == 1:
        computed = framework.lstm_gradients(leaves)
    else:
        computed = framework.second(framework.lstm, leaves)
        shifted = [array.astype(np.complex128) + 1j * step * g for array, g in zip(arrays, exact)]
        exact = [2 * g.imag / step for g in ByHand().lstm_gradients(shifted)]
    pairs = [(framework.array(mine), theirs) for mine, theirs in zip(computed, exact)]
    if any(mine.shape != theirs.shape for mine, theirs in pairs):
        return {"error": float("inf")}
    return {"error": max(float(abs(mine - theirs).max() / abs(theirs).max()) for mine, theirs in pairs)}


def lstm(framework: Framework, **sizes: int) -> dict:
    leaves = lstm_leaves(framework, **sizes)
    return {"time": timed(lambda: framework.lstm_gradients(leaves))}


def second(framework: Framework, **sizes: int) -> dict:
    leaves = lstm_leaves(framework, **sizes)
    return {"time": timed(lambda: framework.second(framework.lstm, leaves))}


def steps(framework: Framework, lengths: list[int], **sizes: int) -> dict:
    """The time of a step in short and in long sequences: how often the shortest goes into the longest."""
    times = []
    with collector_paused():
        for T in lengths:
            leaves = lstm_leaves(framework, T=T, **sizes)
            times.append(timed(lambda leaves=leaves: framework.lstm_gradients(leaves), least=1) / T)
    return {"growth": max(times) / min(times), "step": times[-1]}


def chain(framework: Framework, n: int) -> dict:
    """One operation after the other, n of them, walked back and freed. For processes of their own: the peak counts."""
    leaves = framework.leaves([np.ones(4, np.float32)])
    tanh = framework.tanh

    def program(x: Any) -> Any:
        for _ in range(n // 2):
            x = tanh(x) + 0.5
        return x.sum()

    start = perf_counter()
    run = framework.forward(program, leaves)
    gradients = framework.backward(run, leaves)
    del run
    seconds = perf_counter() - start
    assert np.isfinite(framework.array(gradients[0])).all()
    return {"time": seconds, "peak": peak_mb()}


def recurrence(framework: Framework, T: int) -> Callable:
    tanh = framework.tanh

    def program(h: Any, w: Any) -> Any:
        for _ in range(T):
            h = tanh(h @ w)
        return h.sum()

    return program


def memory(framework: Framework, T: int, B: int, H: int) -> dict:
    """The peak of forward and backward, in arrays a step, of h = tanh(h @ w), which has to keep one: h."""
    h, w = np.ones((B, H), np.float32), np.eye(H, dtype=np.float32)
    leaves = framework.leaves([h, w])
    framework.backward(framework.forward(recurrence(framework, 2), leaves), leaves)
    before = memory_mb()
    framework.backward(framework.forward(recurrence(framework, T), leaves), leaves)
    return {"arrays": (peak_mb() - before) * MB / (T * h.nbytes)}


def training(framework: Framework, n: int, T: int, B: int, H: int) -> dict:
    """What n steps of training leave behind when nothing collects cycles."""
    h, w = np.ones((B, H), np.float32), np.eye(H, dtype=np.float32)
    program = recurrence(framework, T)
    with collector_paused():
        for step in range(n + n // 10):
            if step == n // 10:
                before = memory_mb()
            leaves = framework.leaves([h, w])
            gradients = framework.backward(framework.forward(program, leaves), leaves)
            w = w - np.float32(1e-5) * framework.array(gradients[1])
    return {"growth": memory_mb() - before}


def operation(framework: Framework, name: str, n: int = 200) -> dict:
    """The cost of one operation on 8 x 8 numbers, forward and backward: of a chain of them."""
    tanh = framework.tanh
    apply = {
        "add": lambda x, w: x + w,
        "multiply": lambda x, w: x * w,
        "matmul": lambda x, w: x @ w,
        "tanh": lambda x, w: tanh(x),
    }[name]

    def program(x: Any, w: Any) -> Any:
        for _ in range(n):
            x = apply(x, w)
        return x.sum()

    leaves = framework.leaves([np.eye(8, dtype=np.float32), np.eye(8, dtype=np.float32)])
    return {"time": timed(lambda: framework.backward(framework.forward(program, leaves), leaves)) / n}


def startup(framework: Framework) -> dict:
    """The time of a whole process that imports the framework, and ends."""
    start = perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # as compiled, as installed
    subprocess.run([sys.executable, "-c", f"import {framework.module}"], check=True, env=environment)
    return {"time": perf_counter() - start}


TASKS: dict[str, Callable[..., dict]] = {
    task.__name__: task for task in (check, lstm, second, steps, chain, memory, training, operation, startup)
}
