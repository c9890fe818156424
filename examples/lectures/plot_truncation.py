"""
Truncated back-propagation: avoided rather than solved
======================================================

Truncated back-propagation through time goes back k steps, and no further. Left: how far its gradient is from the whole
one, as k grows. With k = T nothing is cut, and they are the same. Below, the difference is what has been cut off:
little in a network that forgets, much in one that remembers. Right: a network that has to repeat what it read six steps
before, trained with windows of k steps. The method, says Ñanculef, is less a solution to the problem of long
dependencies than a way to avoid it: they are learnt once a window is long enough to contain them, and not before.
"""

# %%
# The bias. Each network reads 40 random vectors, its error is that of all outputs, and ``tg.bptt.truncated`` slides a
# window of k steps along by one.

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim

TIME, LAG, BATCH = 40, 6, 16
KS = [1, 2, 4, 8, 16, 24, 32]
rng = np.random.default_rng(0)
xs, targets = rng.standard_normal((2, TIME, 1, 8))


def tanh_cell(radius: float) -> nn.RNNCell:
    cell = nn.RNNCell(8, 8, nonlinearity="tanh", rng=0, dtype=np.float64)
    cell.weight_hh.data = nn.init.with_spectral_radius(cell.weight_hh.data, radius)
    return cell


CELLS = {
    "tanh, spectral radius 0.5": tanh_cell(0.5),
    "tanh, spectral radius 1.5": tanh_cell(1.5),
    "LSTM, forget bias 1": nn.LSTMCell(8, 8, forget_bias=1.0, rng=0, dtype=np.float64),
    "LSTM, forget bias 5": nn.LSTMCell(8, 8, forget_bias=5.0, rng=0, dtype=np.float64),
}


def gradient(cell: nn.Cell, k: int) -> np.ndarray:
    cell.zero_grad()
    for _ in tg.bptt.truncated(cell, 0.3 * xs, lambda ys, steps: nn.mse(ys, targets[steps]), k1=1, k2=k):
        pass
    return cell.weight_hh.grad.numpy()


def bias(cell: nn.Cell) -> list[float]:
    whole = gradient(cell, TIME)
    return [float(np.linalg.norm(gradient(cell, k) - whole) / np.linalg.norm(whole)) for k in KS]


# %%
# What is learnt: bits, to be repeated six steps later. For each k there are as many updates, each by the sum of the
# gradients of all windows; the state is carried on from window to window, so only the gradient is cut.


def accuracy(k: int, seed: int, updates: int = 70) -> float:
    rng = np.random.default_rng(seed)
    cell, readout = nn.RNNCell(2, 16, rng=rng), nn.Linear(16, 2, rng=rng)
    optimizer = optim.Adam([*cell.parameters(), *readout.parameters()], lr=0.01)

    def bits(time: int) -> tuple[np.ndarray, np.ndarray]:
        read = rng.integers(2, size=(time + LAG, BATCH))
        return np.eye(2, dtype=np.float32)[read], read[:-LAG]

    for _ in range(updates):
        x, wanted = bits(4 * LAG)
        _, state = tg.scan(cell, x[:LAG])  # nothing is wanted yet

        def loss(hs: tg.Tensor, steps: slice, wanted: np.ndarray = wanted) -> tg.Tensor:
            return nn.cross_entropy(readout(hs), wanted[steps])

        for _ in tg.bptt.truncated(cell, x[LAG:], loss, k, state=state):
            pass
        optim.clip_grad_norm_(optimizer.parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    x, wanted = bits(200)
    with tg.no_grad():
        said = readout(tg.scan(cell, x)[0][LAG:]).numpy().argmax(axis=-1)
    return float(np.mean(said == wanted))


# %%
# Both, side by side.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for name, cell in CELLS.items():
    left.semilogy(KS, bias(cell), "o-", markersize=4, label=name)
left.set(xlabel="k, the steps that a gradient goes back", ylabel="error of the gradient, relative to the whole",
         title="The bias of a gradient that is cut short")  # fmt: skip
left.legend()

lengths = [1, 2, 4, 6, 7, 8, 10, 12]
runs = np.array([[accuracy(k, seed) for k in lengths] for seed in range(3)])
right.plot(lengths, runs.T, "o", color="C0", markersize=4, alpha=0.6, label=["each of three runs", None, None])
right.plot(lengths, runs.mean(axis=0), color="C0", label="their mean")
right.axvline(LAG + 0.5, color="0.5", linestyle=":", label=f"{LAG} steps and one")
right.set(xlabel="k, the length of a window", ylabel="bits repeated correctly", ylim=(0.45, 1.02),
          title=f"What is {LAG} steps back is learnt once k > {LAG}")  # fmt: skip
right.legend(loc="lower right")
