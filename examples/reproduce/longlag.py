"""The experiments with long lags of Hochreiter and Schmidhuber (1997), and copy memory.

Two kinds of nets are trained here. Those of 1997, by their own rules: :class:`~tinygrad_rnn.nn.LSTM1997Cell`, logistic
outputs, squared error, gradients that flow through the cells alone, one sequence after another, plain gradient descent.
And what one would take today: :class:`~tinygrad_rnn.nn.LSTMCell` or GRU, cross-entropy, Adam, batches. A batch counts
as its number of sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, tasks

from . import pascanu, table2
from .figures import pyplot, saved
from .nets import Net, training, until_right, until_solved
from .sweep import Experiment, Figures, count

PAPER = "Hochreiter & Schmidhuber 1997"
BLOCKS_OF_3 = {  # the memory of experiment 3
    "blocks": 3,
    "cells": 1,
    "input_gate_bias": (-1.0, -3.0, -5.0),
    "output_gate_bias": (-2.0, -4.0, -6.0),
}


# The tasks, each with the nets that are tried on it -------------------------------------------------------------------


def few(small: bool, sequences: int) -> int:
    """How many sequences; in a small run, hardly any."""
    return 32 if small else sequences


def run_lag(
    seed: int, small: bool, p: int, cell: str, sequences: int, lr: float = 0.01, readout_lr: float = 0.03,
    random: bool = False, size: int = 1, cells: int = 8,
) -> Figures:  # fmt: skip
    """2a and 2b. LSTM as in the paper's 2a, an input gate, no output gate, no recurrent weights; but more cells."""
    task, rng = (tasks.RandomLag if random else tasks.NoiseFreeLag)(p), np.random.default_rng(seed)
    if cell == "lstm":
        made = nn.LSTM1997Cell(p + 1, cells, bias=False, output_gate=False, recurrent=False, bound=1.0, rng=rng)
    else:
        made = nn.RNNCell(p + 1, cells, rng=rng)
    net = Net(made, p + 1, "softmax", rng, sees_inputs=True)
    groups = [{"params": net.cell.parameters()}, {"params": net.readout.parameters(), "lr": readout_lr}]
    steps = training(net, task, optim.Adam(groups, lr=lr), few(small, sequences), size, rng, 1.0, f"2a {cell}", seed)
    return until_solved(net, task, steps, seed, small)


def run_reber(seed: int, small: bool, sequences: int, lr: float, hidden: int) -> Figures:
    rng = np.random.default_rng(seed)
    task = tasks.EmbeddedReber(rng)
    net = Net(nn.LSTMCell(7, hidden, rng=rng), 7, "softmax", rng)
    optimizer = optim.Adam(net.parameters(), lr=lr)
    steps = training(net, task, optimizer, few(small, sequences), 1, rng, 1.0, "reber", seed)
    return until_solved(net, task, steps, seed, small)


def run_reber_1997(seed: int, small: bool, sequences: int, lr: float) -> Figures:
    """Three blocks of two cells; only gates have biases, those of the output gates -1, -2, -3 at first."""
    rng = np.random.default_rng(seed)
    task = tasks.EmbeddedReber(rng)
    cell = nn.LSTM1997Cell(7, 3, 2, "gates", truncated=True, output_gate_bias=(-1.0, -2.0, -3.0), bound=0.2, rng=rng)
    net = Net(cell, 7, "squared", rng, bias=False, bound=0.2)
    optimizer = optim.SGD(net.parameters(), lr=lr)
    steps = training(net, task, optimizer, few(small, sequences), 1, rng, None, "reber 1997", seed)
    return until_solved(net, task, steps, seed, small, every=200)


def run_3c(seed: int, small: bool, sequences: int, lr: float, size: int) -> Figures:
    """What is to be learnt is a mean of noisy targets: so the learning rate goes down to 0."""
    rng, task = np.random.default_rng(seed), tasks.TwoSequence(100, 3, "3c")
    cell = nn.LSTM1997Cell(1, **BLOCKS_OF_3, truncated=True, rng=rng)
    net = Net(cell, 1, "squared", rng, bias=False, bound=0.1)
    optimizer = optim.Adam(net.parameters(), lr=lr)
    for done in training(net, task, optimizer, few(small, sequences), size, rng, 1.0, "3c", seed, decay=True):
        sequences = done.sequences
    batch = task.batch(task.tested, [seed, 1])
    with tg.no_grad():
        answers = net.answers(net(batch))
    return {"distance": task.distances(answers, batch).mean(), "wrong": int(task.wrong(answers, batch).sum()),
            "tested": task.tested, "sequences": sequences}  # fmt: skip


def modern(kind: str, inputs: int, hidden: int, forget: float, rng: Any) -> nn.Cell:
    """A cell; an LSTM's forget gate is open at first."""
    if kind != "lstm":
        return {"gru": nn.GRUCell, "tanh": nn.RNNCell}[kind](inputs, hidden, rng=rng)
    cell = nn.LSTMCell(inputs, hidden, rng=rng)
    bias = cell.bias_ih.data.copy()
    bias[hidden : 2 * hidden] += forget  # the rows are i, f, g, o
    cell.bias_ih.data = bias
    return cell


def run_1997(
    seed: int, small: bool, task: str, cell: dict[str, Any], sequences: int, lr: float, *, arguments: tuple = (),
    readout_bias: bool = True, loss: str = "squared", adam: bool = False, size: int = 1, decay: bool = False,
    last: int = 2000, allowed: int = 0, error: float = np.inf,
) -> Figures:  # fmt: skip
    """The net of the paper, ``cell``, trained as in the paper; or, with adam, by Adam, in batches."""
    rng, made = np.random.default_rng(seed), getattr(tasks, task)(*arguments)
    cell = {"truncated": True, "bound": 0.1} | cell
    net = Net(nn.LSTM1997Cell(made.inputs, **cell, rng=rng), made.outputs, loss, rng, bias=readout_bias, bound=0.1)
    optimizer, clip = (optim.Adam if adam else optim.SGD)(net.parameters(), lr=lr), 1.0 if adam else None
    steps = training(net, made, optimizer, few(small, sequences), size, rng, clip, f"{task} 1997", seed, decay)
    figures = until_right(net, made, steps, seed, small, last, allowed, error)
    return figures | {"weights": sum(p.size for p in net.parameters())}


def run_copy(
    seed: int, small: bool, cell: str, T: int, sequences: int, hidden: int, lr: float, forget: float, size: int
) -> Figures:
    """Until its loss is well below a tenth of the baseline, or there are no more sequences."""
    rng, task = np.random.default_rng(seed), tasks.CopyMemory(T)
    net = Net(modern(cell, task.inputs, hidden, forget, rng), task.outputs, "softmax", rng)
    optimizer, sequences = optim.Adam(net.parameters(), lr=lr), few(small, sequences)
    curve, target = [], task.baseline / 10
    for done in training(net, task, optimizer, sequences, size, rng, 1.0, f"copy {cell}", seed, True):
        if done.sequences % (size * 25) == 0:
            curve.append([done.sequences, done.loss / (T + 20)])
            if np.mean([loss for _, loss in curve[-4:]]) < target / 2:
                break
    batch = task.batch(1000, [seed, 1])
    with tg.no_grad():
        loss = net.loss(net(batch), batch).item() / (T + 20)
    return {"loss": loss, "sequences": done.sequences, "baseline": task.baseline, "curve": curve}


# What is said of them -------------------------------------------------------------------------------------------------


def solved(figures: list[Figures]) -> str:
    """How many seeds, after how many sequences, and the most that were wrong of those that are new."""
    right = [f for f in figures if f["solved"]]
    text = f"{len(right)} of {len(figures)} seeds"
    if right:
        most = max(f["sequences"] for f in right)
        text += f"; {np.mean([f['sequences'] for f in right]):,.0f} sequences (at most {most:,})"
        text += f"; wrong: at most {max(f['wrong'] for f in right)} of {right[0]['tested']:,}"
    if missed := [f for f in figures if not f["solved"]]:
        tried, wrong = max(f["sequences"] for f in missed), sorted(f["wrong"] for f in missed)
        text += f"; others stopped after {tried:,}, wrong: {wrong[0]:,} to {wrong[-1]:,} of {missed[0]['tested']:,}"
    return text


def share(figures: list[Figures], least: float) -> bool:
    return count(f["solved"] for f in figures) >= least * len(figures)


def most(limit: int, least: float = 0.9) -> Callable:
    """Whether at least so many of the seeds were solved within so many sequences."""
    return lambda figures: count(f["solved"] and f["sequences"] <= limit for f in figures) >= least * len(figures)


def on_average(limit: int) -> Callable:
    return lambda figures: share(figures, 1) and np.mean([f["sequences"] for f in figures]) <= limit


def never(figures: list[Figures]) -> bool:
    return not any(f["solved"] for f in figures)


def table_2(figures: list[Figures]) -> str:
    """Of all trials of all seeds."""
    sequences = [n for f in figures for n in f["sequences"]]
    trials, tried = sum(f["trials"] for f in figures), max(f["tried"] for f in figures)
    text = f"{len(sequences) / trials:.0%} of {trials} trials"
    if sequences:
        text += f"; {np.mean(sequences):,.0f} sequences"
    return text + (f"; others stopped after {tried:,}" if len(sequences) < trials else "")


def copied(figures: list[Figures]) -> str:
    losses = sorted(f["loss"] for f in figures)
    return f"{losses[0]:.4f} to {losses[-1]:.4f} nats ({max(f['sequences'] for f in figures):,} sequences)"


def pascanu_solved(figures: list[Figures]) -> str:
    wrong = sorted(f["wrong"] for f in figures)
    text = f"{count(f['solved'] for f in figures)} of {len(figures)} seeds; wrong {wrong[0]:.2%} to {wrong[-1]:.2%}"
    return text + f" (at most {max(f['updates'] for f in figures):,} updates)"


def distance(figures: list[Figures]) -> str:
    distances, wrong = sorted(f["distance"] for f in figures), sum(f["wrong"] for f in figures)
    text = f"distance {distances[0]:.4f} to {distances[-1]:.4f}; {wrong / sum(f['tested'] for f in figures):.4f} wrong"
    return f"{text} ({figures[0]['sequences']:,} sequences)"


ADAM = {"adam": True, "size": 8, "lr": 0.02}
TWO_BLOCKS = {"blocks": 2, "cells": 2}
ADDING = {
    "task": "Adding",
    "cell": TWO_BLOCKS | {"input_gate_bias": (-3.0, -6.0)},
    "sequences": 74_000,
    "error": 0.01,
}
ORDER = {
    "task": "TemporalOrder",
    "cell": TWO_BLOCKS | {"input_gate_bias": (-2.0, -4.0)},
    "sequences": 31_390,
    "error": 0.1,
}
WHOLE = {"truncated": False}  # the gradient flows through gates and outputs, too
ORDER_OF_TWO = ORDER | ADAM | {"cell": ORDER["cell"] | WHOLE, "loss": "softmax"}
ORDER_OF_THREE = ORDER_OF_TWO | {
    "cell": {"blocks": 3, "cells": 2, "input_gate_bias": (-2.0, -4.0, -6.0)} | WHOLE,
    "arguments": (3,),
    "sequences": 200_000,
}
MULTIPLICATION = ADDING | ADAM | {"task": "Multiplication", "loss": "logistic", "decay": True}
MULTIPLICATION |= {"sequences": 240_000, "allowed": 13, "error": 1.0}
BETWEEN = {"p": 100, "cell": "lstm", "sequences": 56_800, "random": True, "size": 8}
VERY_LONG = ADAM | {
    "task": "VeryLongLag",
    "arguments": (50, 50),
    "cell": {"blocks": 2, "cells": 1, "bias": False, "bound": 0.2},
    "readout_bias": False,
    "sequences": 30_000,
    "loss": "softmax",
}
TWO_SEQUENCE = ADAM | {
    "task": "TwoSequence",
    "arguments": (100, 3, "3a"),
    "cell": BLOCKS_OF_3,
    "readout_bias": False,
    "sequences": 27_380,
    "loss": "logistic",
}
COPY = {"T": 50, "sequences": 400_000, "hidden": 128, "lr": 5e-3, "forget": 5.0, "size": 20}
PASCANU = "Pascanu et al. 2013, section 4.1"
TABLE_2 = f"{PAPER}, table 2"

EXPERIMENTS = [
    # Table 2, row by row
    *[
        Experiment(
            f"table2-rtrl-p4-lr{lr:g}",
            f"2a, p = 4, RTRL, rate {lr:g}",
            f"{share_} of trials, {n} sequences ({TABLE_2})",
            "some trials succeed",
            table2.rtrl,
            table_2,
            lambda fs: not never(fs),
            {"p": 4, "lr": lr, "sequences": 1_500_000},
            seeds=1,
        )
        for lr, share_, n in ((1.0, "78 %", "1,043,000"), (4.0, "56 %", "892,000"), (10.0, "22 %", "254,000"))
    ],
    Experiment(
        "table2-rtrl-p10",
        "2a, p = 10, RTRL",
        f"0 % within 5,000,000 sequences ({TABLE_2})",
        "none within 100,000",
        table2.rtrl,
        table_2,
        never,
        {"p": 10, "lr": 5.0, "sequences": 100_000},
        seeds=1,
    ),
    Experiment(
        "table2-rtrl-p100",
        "2a, p = 100, RTRL",
        f"0 % within 5,000,000 sequences ({TABLE_2})",
        "none within 5,040",
        table2.rtrl,
        table_2,
        never,
        {"p": 100, "lr": 1.0, "sequences": 5040, "trials": 2},
        seeds=1,
    ),
    Experiment(
        "table2-bptt-p100",
        "2a, p = 100, back-propagation through time",
        f"0 % within 5,000,000 sequences ({TABLE_2})",
        "none within 5,040",
        table2.bptt,
        table_2,
        never,
        {"p": 100, "lr": 1.0, "sequences": 5040},
        seeds=1,
    ),
    Experiment(
        "table2-chunker-p100",
        "2a, p = 100, neural sequence chunker",
        f"33 % of trials, 32,400 sequences ({TABLE_2})",
        "",
        table2.chunker,
        table_2,
        None,
        {"p": 100, "lr": 1.0, "sequences": 32_400},
        seeds=3,
    ),
    Experiment(
        "table2-lstm-p100",
        "2a, p = 100, LSTM: eight cells with input gates, Adam, cross-entropy",
        f"100 % of trials, 5,040 sequences ({TABLE_2})",
        "9 of 10 seeds within 5,040",
        run_lag,
        solved,
        most(5040),
        {"p": 100, "cell": "lstm", "sequences": 5040},
    ),
    Experiment(
        "2a-tanh-p100",
        "2a, p = 100, tanh network",
        "never (RTRL and BPTT, table 2)",
        "none within 5,040",
        run_lag,
        solved,
        never,
        {"p": 100, "cell": "tanh", "sequences": 5040},
    ),
    # The other experiments of the paper, in its order
    Experiment(
        "reber",
        "1, embedded Reber grammar, LSTM, Adam",
        f"100 %, 8,440 sequences ({PAPER}, table 1)",
        "all seeds, 4,800 sequences on average",
        run_reber,
        solved,
        on_average(4800),
        {"sequences": 20_000, "lr": 0.02, "hidden": 12},
    ),
    Experiment(
        "reber-1997",
        "1, embedded Reber grammar, the net of 1997 (276 weights)",
        f"100 %, 8,440 sequences ({PAPER}, table 1)",
        "all seeds, 8,440 on average",
        run_reber_1997,
        solved,
        on_average(8440),
        {"sequences": 40_000, "lr": 0.5},
        seeds=3,
    ),
    Experiment(
        "2b",
        "2b, p = 100, as 2a's LSTM",
        f"100 % of 18 trials, 5,680 sequences ({PAPER})",
        "9 of 10 seeds within 5,680",
        run_lag,
        solved,
        most(5_680),
        BETWEEN,
    ),
    Experiment(
        "2c",
        "2c, q = p = 50, the net of 1997 (364 weights), Adam",
        f"30,000 sequences ({PAPER}, table 3)",
        "9 of 10 seeds within 30,000",
        run_1997,
        solved,
        most(30_000),
        VERY_LONG,
    ),
    Experiment(
        "3a",
        "3a, T = 100, N = 3, the net of 1997 (102 weights), Adam",
        f"27,380 sequences, .0002 wrong ({PAPER}, table 4)",
        "9 of 10 seeds within 27,380",
        run_1997,
        solved,
        most(27_380),
        TWO_SEQUENCE,
    ),
    Experiment(
        "3c",
        "3c, noisy targets, the net of 1997 (102 weights), Adam",
        f"269,650 sequences, .00558 wrong, distance .014 ({PAPER}, table 6)",
        "distance at most .014 within 269,650",
        run_3c,
        distance,
        lambda fs: all(f["distance"] <= 0.014 for f in fs),
        {"sequences": 269_648, "lr": 0.01, "size": 32},
        seeds=3,
    ),
    Experiment(
        "adding",
        "4, adding, T = 100, the net of 1997 (93 weights), Adam, whole gradients, logistic loss",
        f"74,000 sequences, 1 of 2560 wrong ({PAPER}, table 7)",
        "9 of 10 seeds within 74,000, at most 3 of 2560 wrong",
        run_1997,
        solved,
        most(74_000),
        ADDING | ADAM | {"cell": ADDING["cell"] | WHOLE, "loss": "logistic", "decay": True, "last": 4000},
    ),
    Experiment(
        "adding-1997",
        "4, adding, T = 100, the net of 1997 (93 weights), as in the paper",
        f"74,000 sequences, 1 of 2560 wrong ({PAPER}, table 7)",
        "at most 3 of 2560 wrong",
        run_1997,
        solved,
        partial(share, least=0.9),
        ADDING | {"lr": 0.5, "sequences": 148_000},
        seeds=2,
    ),
    Experiment(
        "multiplication",
        "5, multiplication, T = 100, the net of 1997 (93 weights), Adam, logistic loss",
        f"1,273,000 sequences, 14 of 2560 wrong ({PAPER}, table 8)",
        "within 482,000, at most 17 of 2560 wrong",
        run_1997,
        solved,
        most(482_000),
        MULTIPLICATION,
        seeds=3,
    ),
    Experiment(
        "6a",
        "6a, temporal order, the net of 1997 (156 weights), Adam, whole gradients",
        f"31,390 sequences, 1 of 2560 wrong ({PAPER}, table 9)",
        "9 of 10 seeds within 31,390, at most 3 of 2560 wrong",
        run_1997,
        solved,
        most(31_390),
        ORDER_OF_TWO,
    ),
    Experiment(
        "6a-1997",
        "6a, temporal order, the net of 1997 (156 weights), as in the paper",
        f"31,390 sequences, 1 of 2560 wrong ({PAPER}, table 9)",
        "at most 3 of 2560 wrong",
        run_1997,
        solved,
        partial(share, least=0.9),
        ORDER | {"lr": 0.5, "sequences": 62_780},
        seeds=2,
    ),
    Experiment(
        "6b",
        "6b, temporal order of three, the net of 1997 (308 weights), Adam, whole gradients",
        f"571,100 sequences, 2 of 2560 wrong ({PAPER}, table 9)",
        "within 571,100, at most 3 of 2560 wrong",
        run_1997,
        solved,
        most(571_100),
        ORDER_OF_THREE,
        seeds=3,
    ),
    # Others
    *[
        Experiment(
            f"copy-{cell}",
            f"Copy memory, T = 50, {name}",
            ".2971 nats without memory (Arjovsky et al. 2016)",
            target,
            run_copy,
            copied,
            met,
            COPY | {"cell": cell},
            seeds=3,
        )
        for cell, name, target, met in (
            ("lstm", "LSTM", "below .02971", lambda fs: all(f["loss"] < f["baseline"] / 10 for f in fs)),
            ("gru", "GRU", "below .02971", lambda fs: all(f["loss"] < f["baseline"] / 10 for f in fs)),
            (
                "tanh",
                "tanh network",
                "stays near the baseline",
                lambda fs: all(f["loss"] > f["baseline"] * 0.8 for f in fs),
            ),
        )
    ],
    *[
        Experiment(
            f"pascanu-{T}-{name}",
            f"Temporal order, tanh-50, length {T}, {how}",
            f"{published} ({PASCANU})",
            target,
            pascanu.run,
            pascanu_solved,
            met,
            {"T": T, "updates": updates, "lr": 0.01, "clip": clip, "weight": weight},
            seeds=5,
        )
        for T, updates in ((30, 30_000), (50, 60_000))
        for name, how, published, target, met, clip, weight in (
            ("sgd", "plain gradients", "the least success", "", None, None, 0.0),
            ("clip", "clipped", "more", "", None, 1.0, 0.0),
            (
                "regulariser",
                "clipped, and Ω",
                "100 %",
                "5 of 5 seeds below 1 % wrong",
                partial(share, least=1),
                1.0,
                4.0,
            ),
        )
    ],
]


# Figures --------------------------------------------------------------------------------------------------------------


def draw(lines: dict[str, list[dict]], folder: Path) -> list[Path]:
    return table2.draw(lines, folder / "table2.png") + draw_curves(lines, folder / "longlag.png")


def draw_curves(lines: dict[str, list[dict]], path: Path) -> list[Path]:
    """Learning curves: how many sequences are wrong, by how many there have been; one line for each seed."""
    curves = {
        e: lines[e.name] for e in EXPERIMENTS if any(line["figures"].get("curve") for line in lines.get(e.name, ()))
    }
    if not curves:
        return []
    columns = min(len(curves), 4)
    rows = -(-len(curves) // columns)
    figure, axes = pyplot().subplots(
        rows, columns, figsize=(3.2 * columns, 2.6 * rows), layout="constrained", squeeze=False
    )
    for place in axes.flat[len(curves) :]:
        place.axis("off")
    for place, (e, found) in zip(axes.flat, curves.items()):
        for line in found:
            if curve := line["figures"].get("curve"):
                place.plot(*zip(*curve), color="C0", alpha=0.5, linewidth=1)
        what = "nats" if e.name.startswith("copy") else "share wrong"
        place.set_title(e.name, fontsize=9)
        place.set(xlabel="sequences", ylabel=what, ylim=(0, None))
        place.ticklabel_format(axis="x", style="sci", scilimits=(3, 3))
        place.grid(alpha=0.3)
    return [saved(figure, path)]
