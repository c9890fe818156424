"""Handwritten digits, one pixel at a time: what does a recurrent cell still know of the first pixel at the last?

An 8 x 8 image is read as a sequence of 64 numbers, and named after the last one. So the loss has to reach back over up
to 64 steps, and the figure shows how far it does: the norm of its gradient with regard to the output h_t of each step.
Before training it vanishes (Hochreiter, 1991): from the last step to the first by more than ten orders of magnitude, in
all cells but the IRNN, which starts as the identity. Training brings it back; the gated cells make more of it.

    python examples/sequential_digits.py                          # all four cells: a minute and a half on two cores
    python examples/sequential_digits.py --cell lstm --permuted   # the pixels in another order, always the same one
    python examples/sequential_digits.py --resume                 # go on where the last run was stopped (by Ctrl-C)

Needs scikit-learn (for the data: 1797 images of the UCI repository), matplotlib and tqdm. Small products like these are
fastest with one thread: set OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, tasks

CELLS = {  # each with a learning rate that suits it
    "rnn": (nn.RNNCell, 5e-3),
    "irnn": (partial(nn.IRNNCell, std=1.0), 1e-3),
    "gru": (nn.GRUCell, 1e-2),
    "lstm": (nn.LSTMCell, 1e-2),
}
NOISE = 0.1  # added to the pixels in training, anew in each epoch: so they are not learnt by heart


class Reader(nn.Module):
    """Reads a sequence with a cell, and says what it was from the cell's last output."""

    def __init__(self, cell: nn.Cell, classes: int, rng: np.random.Generator):
        self.cell = cell
        self.readout = nn.Linear(cell.hidden_size, classes, rng=rng)

    def forward(self, xs):
        ys, _ = tg.scan(self.cell, xs)
        return self.readout(ys[-1])


@dataclass
class Run:
    """What came of the training of one cell."""

    name: str
    parameters: int
    accuracy: list[float] = field(default_factory=list)  # on the test images, after each epoch
    seconds: float = 0.0
    before: np.ndarray | None = None  # the norms of the gradient at each step, before training
    after: np.ndarray | None = None  # and now


def load_data(options: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Images as rows of 64 pixels in [0, 1], and their labels: training images, test images, labels, labels."""
    (x_train, y_train), (x_test, y_test) = (
        images.permuted(options.seed) if options.permuted else images for images in tasks.digits()
    )
    few = (128, 64) if options.smoke else (None, None)
    return x_train[: few[0]], x_test[: few[1]], y_train[: few[0]], y_test[: few[1]]


def sequences(images: np.ndarray, device: str) -> tg.Tensor:
    """Rows of pixels as inputs of a cell: (time, batch, 1)."""
    return tg.tensor(images.T[:, :, None], device=device)


def train(run: Run, model: Reader, lr: float, data: tuple, options: argparse.Namespace) -> None:
    """Train a model, and write down in run how it goes. After each epoch all is saved, so that it can be resumed."""
    x_train, x_test, y_train, y_test = data
    optimizer = optim.Adam(model.parameters(), lr=lr)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=options.epochs)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    path = options.out / f"{run.name}-checkpoint.npz"
    settings = f"{model}, lr={lr}" + "".join(
        f", {x}={getattr(options, x)}" for x in ("epochs", "batch", "seed", "permuted")
    )
    if options.resume and path.exists():
        resume(run, parts, tg.load(path), settings, path)
    try:
        for epoch in (bar := tqdm(range(len(run.accuracy), options.epochs), run.name, unit="epoch")):
            start = time.perf_counter()
            rng = np.random.default_rng([options.seed, epoch])  # so that a run that is resumed draws the same numbers
            order = rng.permutation(len(x_train))
            noisy = x_train + NOISE * rng.standard_normal(x_train.shape, np.float32)
            for i in range(0, len(order), options.batch):
                batch = order[i : i + options.batch]
                loss = nn.cross_entropy(model(sequences(noisy[batch], options.device)), y_train[batch])
                optimizer.zero_grad()
                loss.backward()
                optim.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            schedule.step()
            run.accuracy.append(accuracy(model, x_test, y_test, options.device))
            run.seconds += time.perf_counter() - start
            if run.accuracy[-1] == max(run.accuracy):
                tg.save(options.out / f"{run.name}-best.npz", model.state_dict())
            state = {name: part.state_dict() for name, part in parts.items()}
            made = {"accuracy": run.accuracy, "seconds": run.seconds, "before": run.before}
            tg.save(path, {**state, "run": made, "settings": settings})
            bar.set_postfix(loss=f"{loss.item():.3f}", accuracy=f"{run.accuracy[-1]:.3f}")
    finally:
        run.after = gradient_norms(model, x_test, y_test, options.device)


def resume(run: Run, parts: dict, saved: dict, settings: str, path: Path) -> None:
    """Put everything back to where it was after the last epoch that was finished."""
    if str(saved["settings"]) != settings:
        raise SystemExit(f"{path} was made with other settings:\n  {saved['settings']}\nand these are\n  {settings}")
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    run.accuracy, run.seconds = saved["run"]["accuracy"].tolist(), float(saved["run"]["seconds"])
    run.before = saved["run"]["before"]


@tg.no_grad
def accuracy(model: Reader, images: np.ndarray, labels: np.ndarray, device: str) -> float:
    """The share of images that are named rightly."""
    return float(np.mean(model(sequences(images, device)).numpy().argmax(axis=1) == labels))


def gradient_norms(model: Reader, images: np.ndarray, labels: np.ndarray, device: str) -> np.ndarray:
    """The norm of the gradient of the loss with regard to the output h_t, for each step t: a scan, written out."""
    state, hs = None, []
    for x in sequences(images, device):
        h, state = model.cell(x, state)
        hs.append(h)
    loss = nn.cross_entropy(model.readout(h), labels)
    return np.array([np.linalg.norm(g.numpy()) for g in tg.gradients(loss, hs)])


def references(data: tuple) -> dict[str, float]:
    """What needs no memory: a linear classifier that sees all pixels at once, and always guessing the same."""
    x_train, x_test, y_train, y_test = data
    linear = LogisticRegression(max_iter=1000).fit(x_train, y_train)
    return {
        "logistic regression": linear.score(x_test, y_test),
        "most frequent digit": float(np.mean(y_test == np.bincount(y_train).argmax())),
    }


def show_table(runs: list[Run], lines: dict[str, float]) -> None:
    print(f"\n{'cell':<22}{'parameters':>10}{'epochs':>8}{'best':>8}{'last':>8}{'seconds':>9}")
    for run in runs:
        print(f"{run.name:<22}{run.parameters:>10}{len(run.accuracy):>8}{max(run.accuracy):>8.3f}"
              f"{run.accuracy[-1]:>8.3f}{run.seconds:>9.0f}")  # fmt: skip
    for name, value in lines.items():
        print(f"{name:<40}{value:>8.3f}")


def draw(runs: list[Run], lines: dict[str, float], path: Path) -> None:
    """Left: how the cells learn. Right: how far the gradient reaches back, before training and after."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (learning, before, after) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for run in runs:
        learning.plot(range(1, len(run.accuracy) + 1), run.accuracy, label=run.name)
        for axes, norms in (before, run.before), (after, run.after):
            axes.semilogy(range(1, len(norms) + 1), np.maximum(norms, 1e-30), label=run.name)
    for style, (name, value) in zip((":", "--"), lines.items()):
        learning.axhline(value, color="gray", linestyle=style, label=name)
    learning.set(title="One pixel at a time", xlabel="epoch", ylabel="accuracy on test images", ylim=(0, 1))
    learning.legend()
    before.sharey(after)
    for axes, when in (before, "before"), (after, "after"):
        axes.set(title=f"Norm of ∂loss/∂h_t, {when} training", xlabel="step t")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> list[Run]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", action="append", choices=list(CELLS), help="may be repeated; default: all four")
    parser.add_argument("--hidden", type=int, default=64, help="units in a cell")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, help="learning rate; by default, what suits the cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--permuted", action="store_true", help="the pixels in a random order, the same for all images")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in the output folder")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder for checkpoints and the figure")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see whether it works")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        options.epochs, options.hidden = min(options.epochs, 3), 8

    data, runs = load_data(options), []
    try:
        for name in options.cell or CELLS:
            make, lr = CELLS[name]
            rng = np.random.default_rng(options.seed)
            model = Reader(make(1, options.hidden, rng=rng), 10, rng).to(options.device)
            runs.append(run := Run(name, sum(p.size for p in model.parameters())))
            run.before = gradient_norms(model, data[1], data[3], options.device)
            train(run, model, options.lr or lr, data, options)
    except KeyboardInterrupt:
        print("\nStopped. Here is what there is; --resume goes on.")
    runs = [run for run in runs if run.accuracy]
    if runs:
        lines = references(data)
        show_table(runs, lines)
        draw(runs, lines, options.out / "digits.png")
        print(f"\nFigure: {options.out / 'digits.png'}")
    return runs


if __name__ == "__main__":
    main()
