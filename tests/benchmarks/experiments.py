"""What is measured: tasks (see worker.py), their sizes, and the figures that the project has set itself."""

from __future__ import annotations

from dataclasses import dataclass, field

OURS, SCAN, NUMPY = "tinygrad_rnn", "tinygrad_rnn, tg.scan", "NumPy"
PEERS = ["PyTorch", "autograd", "MyGrad"]


@dataclass
class Figure:
    """A figure that a task returns; and the targets: ours at most so large, at most so many times a peer's."""

    key: str
    title: str
    unit: str
    at_most: float | None = None
    ratios: dict[str, float] = field(default_factory=dict)


@dataclass
class Experiment:
    """A task (see worker.py), its sizes, tiny ones for --smoke, what it returns, and who takes part."""

    name: str
    title: str
    task: str
    sizes: dict
    tiny: dict
    figures: list[Figure]
    ours: list[str] = field(default_factory=lambda: [OURS])
    others: list[str] = field(default_factory=lambda: PEERS)
    order: int = 0  # the order of the LSTM's gradients to check first
    fresh: bool = False  # every measurement in a new process
    smaller: dict | None = None  # sizes for those who fail in the others
    most_rounds: int = 1000
    limit: float = 120.0  # seconds for one measurement


SMALL, LARGE = {"T": 100, "B": 1, "I": 32, "H": 64}, {"T": 100, "B": 32, "I": 64, "H": 128}
TINY = {"T": 5, "B": 2, "I": 3, "H": 4}


def lstm(sizes: dict, torch: float, autograd: float, mygrad: float) -> Experiment:
    ratios = {"PyTorch": torch, "autograd": autograd, "MyGrad": mygrad}
    title = "LSTM of operations, forward + backward, {T} steps, B={B} I={I} H={H}"
    figures = [Figure("time", "", "s", ratios=ratios)]
    return Experiment("lstm", title, "lstm", sizes, TINY, figures, [OURS, SCAN], [NUMPY, *PEERS], order=1)


def second(sizes: dict) -> Experiment:
    title = "the gradient of its gradient, {T} steps, B={B} I={I} H={H}"
    figures = [Figure("time", "", "s", ratios={"PyTorch": 1.2})]
    return Experiment("second", title, "second", sizes, TINY, figures, order=2)


EXPERIMENTS = [
    lstm(SMALL, 0.95, 1 / 8, 1 / 4),
    lstm(LARGE, 1.05, 1 / 3, 1 / 2),
    second(SMALL),
    second(LARGE),
    Experiment(
        "steps",
        "a step of the LSTM, {lengths} steps, B={B} I={I} H={H}, collector off",
        "steps",
        {"lengths": [100, 1000, 10_000], "B": 16, "I": 16, "H": 32},
        {"lengths": [5, 10], "B": 2, "I": 3, "H": 4},
        [Figure("growth", "slowest length / fastest", "", at_most=1.2), Figure("step", "at the longest", "s")],
        ours=[OURS, SCAN],
        smaller={"lengths": [50, 100, 200], "B": 16, "I": 16, "H": 32},
        most_rounds=3,
    ),
    Experiment(
        "chain",
        "a chain of {n:,} operations",
        "chain",
        {"n": 1_000_000},
        {"n": 100},
        [
            Figure("time", "forward + backward + freeing", "s", at_most=8),
            Figure("peak", "peak of the process", "MB", at_most=600),
        ],
        fresh=True,
        smaller={"n": 500},
        most_rounds=3,
    ),
    Experiment(
        "memory",
        "peak of {T} steps tanh(h @ w), h {B} x {H}",
        "memory",
        {"T": 200, "B": 1000, "H": 256},
        {"T": 20, "B": 500, "H": 100},
        [Figure("arrays", "arrays a step (1 must be kept)", "", at_most=1.05)],
        fresh=True,
        smaller={"T": 100, "B": 1000, "H": 256},
        most_rounds=3,
    ),
    Experiment(
        "training",
        "{n:,} trainings of a {T}-step RNN, collector off",
        "training",
        {"n": 10_000, "T": 20, "B": 4, "H": 8},
        {"n": 10, "T": 3, "B": 2, "H": 3},
        [Figure("growth", "growth of memory", "MB", at_most=2)],
        fresh=True,
        most_rounds=1,
    ),
    *[
        Experiment(
            "operation",
            f"one {name}, 8 x 8, forward + backward",
            "operation",
            {"name": name},
            {"name": name, "n": 3},
            [Figure("time", "", "s")],
        )
        for name in ("add", "multiply", "tanh", "matmul")
    ],
    Experiment(
        "import",
        "python -c 'import ...'",
        "startup",
        {},
        {},
        [Figure("time", "", "s", ratios={"NumPy": 1.3})],
        others=[NUMPY, *PEERS],
    ),
]
