"""A scan in segments against the plain one, in one command that prints one table:

    python -m tests.benchmarks.checkpoint [--time T] [--every K ...] [--memory MB ...] [--rounds N]

What is compared are tapes: nothing is compiled. Measured are the forward and the backward pass of an LSTM, each of
whose outputs is read out as one number within the step, over a long sequence. Times are the medians of rounds in which
all take turns; memory is the greatest that Python and NumPy held at any moment, above what there was before, in a run
of its own. The targets are for 10,000 steps.

With ``--smoke``, the same in a tiny size: whether it runs; the figures say nothing.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tracemalloc
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.bptt import checkpointed

MEMORY, TIME = 1 / 20, 1.5  # at most so much of the plain scan's, and so many times its time


class Reader(nn.LSTMCell):
    """An LSTM whose output is one number, and not its state: what grows with the time is then the tape alone."""

    def __init__(self, input_size: int, hidden_size: int, rng: Any):
        super().__init__(input_size, hidden_size, rng=rng)
        self.readout = nn.Linear(hidden_size, 1, rng=rng)

    def step(self, x: Any, state: Any) -> tuple:
        y, state = super().step(x, state)
        return self.readout(y), state


def both_passes(run: Callable, cell: nn.Cell, xs: tg.Tensor) -> np.ndarray:
    cell.zero_grad()
    ys, _ = run(cell, xs)
    (ys * ys).mean().backward()
    return cell.weight_hh.grad.data


def peak(run: Callable, *arguments: Any) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        both_passes(run, *arguments)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print; 1 if gradients differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, default=10_000, help="the number of steps")
    parser.add_argument("--every", type=int, nargs="*", default=[], help="other lengths of a segment, beside √time")
    parser.add_argument("--memory", type=float, nargs="*", default=[5], help="numbers of megabytes to keep within")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    time, rounds = (50, 1) if options.smoke else (options.time, options.rounds)
    rng = np.random.default_rng(0)
    cell, xs = Reader(16, 32, rng), tg.tensor(rng.standard_normal((time, 16, 16), dtype=np.float32))
    runs = {"scan": tg.scan, "checkpointed": checkpointed}
    runs |= {f"checkpointed, every={every}": partial(checkpointed, every=every) for every in options.every}
    budgets = [1 if options.smoke else megabytes for megabytes in options.memory]
    runs |= {f"checkpointed, memory={n:g}e6": partial(checkpointed, memory=round(n * 1e6)) for n in budgets}
    runs = {name: partial(run, compiled=False) for name, run in runs.items()}

    gradients = {name: both_passes(run, cell, xs) for name, run in runs.items()}  # which warms up, too
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            gc.collect()
            start = perf_counter()
            both_passes(run, cell, xs)
            times[name].append(perf_counter() - start)
    peaks = {name: peak(run, cell, xs) for name, run in runs.items()}

    print(f"{time:,} steps of an LSTM, B=16 I=16 H=32, forward and backward; numpy {np.__version__}, {rounds} rounds\n")
    print("| | peak, MB | of the plain | s | times the plain | largest difference |\n|---|---|---|---|---|---|")
    plain, wrong = gradients["scan"], False
    for name in runs:
        share = peaks[name] / peaks["scan"]
        ratios = sorted(t / p for t, p in zip(times[name], times["scan"]))
        error = np.abs(gradients[name] - plain).max() / np.abs(plain).max()
        wrong |= not error < 1e-4
        print(f"| {name} | {peaks[name] / 1e6:.1f} | 1/{1 / share:.0f} | {statistics.median(times[name]):.2f} | "
              f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {error:.0e} |")  # fmt: skip
    print(f"\nTargets, at 10,000 steps: at most 1/{1 / MEMORY:.0f} of the memory, {TIME} times the time.")
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
