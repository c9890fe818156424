"""
The gradient while training
===========================

A number is read at step 1, noise at the other 39, and at the end the network shall say the number. What it needs in
order to learn that, is a gradient that comes back to step 1. Each image shows the norms of ∂L/∂h_t (of an LSTM,
∂L/∂c_t), from step to step, and from update to update. With tanh units nothing comes, and nothing changes: the loss
stays at 1/3, what guessing 0 has. Units of an IRNN pass on too much rather than too little, and learn a part. And for
an LSTM it matters how open its forget gates are at first: with a bias of 1 it does no better than tanh units, with a
bias of 3 it has learned the task after 300 updates. Here, what was not there when training began did not come by
training; with the digits (``examples/sequential_digits.py``), where a little arrives, it does.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.analysis import FlowRecorder

STEPS, UNITS, BATCH, UPDATES = 40, 32, 32, 900


class Reader(nn.Module):
    def __init__(self, cell, rng):
        self.cell, self.readout = cell, nn.Linear(UNITS, 1, rng=rng)

    def forward(self, xs):
        hs, _ = tg.scan(self.cell, xs)
        return self.readout(hs[-1])


def draw(rng, size):
    xs = rng.uniform(-1, 1, (STEPS, size, 2)).astype(np.float32)
    xs[..., 1] = 0
    xs[0, :, 1] = 1  # "remember this"
    return xs, xs[0, :, :1].copy()


def loss(model, batch):
    xs, numbers = batch
    return nn.mse(model(xs), numbers)


# %%
# ``FlowRecorder`` looks at a model while it is trained, always at the same batch, and disturbs nothing. It is a
# callback for ``tg.fit``, or is called by hand, as here.


def train(cell):
    rng = np.random.default_rng(0)
    model, losses = Reader(cell, rng), []
    recorder = FlowRecorder(loss, draw(rng, 64), every=20)
    optimizer = optim.Adam(model.parameters(), lr=0.003)
    for _ in range(UPDATES):
        recorder(model)
        error = loss(model, draw(rng, BATCH))
        optimizer.zero_grad()
        error.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(error.item())
    return recorder, losses


CELLS = {
    "tanh": nn.RNNCell(2, UNITS, rng=0),
    "LSTM, forget bias 1": nn.LSTMCell(2, UNITS, forget_bias=1.0, rng=0),
    "LSTM, forget bias 3": nn.LSTMCell(2, UNITS, forget_bias=3.0, rng=0),
    "IRNN": nn.IRNNCell(2, UNITS, rng=0),
}
figure = plt.figure(figsize=(12, 6), layout="constrained")
axes = figure.subplot_mosaic([[*CELLS], ["loss"] * 4], height_ratios=[3, 2])
for color, (name, cell) in enumerate(CELLS.items()):
    recorder, losses = train(cell)
    norms = np.array([flow.rms(flow.states[-1]) for flow in recorder.flows])
    image = axes[name].pcolormesh(np.arange(1, STEPS + 1), recorder.calls, np.log10(np.maximum(norms, 1e-12)), vmin=-8,
                                  vmax=0, cmap="viridis", rasterized=True)  # fmt: skip
    axes[name].set(title=name, xlabel="step t")
    smooth = np.convolve(losses, np.ones(30) / 30, mode="valid")
    axes["loss"].semilogy(np.arange(30, UPDATES + 1), smooth, color=f"C{color}", label=name,
                          linewidth=1.4 if color else 4)  # fmt: skip
    print(f"{name:<20}  at step 1, first {norms[0, 0]:.1e}, at last {norms[-1, 0]:.1e}; loss {smooth[-1]:.3g}")
axes["tanh"].set_ylabel("update")
figure.colorbar(image, ax=[axes[name] for name in CELLS], extend="both",
                label="log10 of the norm of\n∂L/∂state_t (c of an LSTM)")  # fmt: skip
axes["loss"].set(title="What had no gradient at step 1 was not learned", xlabel="update", ylabel="loss, mean of 30")
axes["loss"].legend(loc="lower left")
