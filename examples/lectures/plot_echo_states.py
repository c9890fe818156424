"""
Echo states, and a free run
===========================

A reservoir is a recurrent network that is drawn at random, and left so. What it hears sets off echoes in its units, and
only a linear readout of these is fitted, in one step, by ridge regression: no gradient goes back through time, so none
can vanish. Here the series is Mackey and Glass's, a delay equation with a mildly chaotic solution; the readout is
fitted to say what comes next, and then the network runs by itself, on its own forecasts.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, tasks

TRAIN, FREE = 2000, 1000
y = tasks.mackey_glass(TRAIN + FREE + 1, squash=True, rng=0)[:, 0]

# %%
# **Forgetting.** What is read out has to be an echo of the input, not of the state that the reservoir happened to
# start from. Two copies start from different states and hear the same series: how far apart are they? A spectral
# radius below 1 is neither needed for that (the input pushes tanh where it is flat), nor is it enough where the norm
# of W is large.

starts, apart = np.random.default_rng(1).uniform(-1, 1, (2, 300)), {}
for radius in 0.5, 0.9, 1.25, 3.0:
    cell = nn.Reservoir(1, 300, leak=0.3, spectral_radius=radius, bias_scaling=0.5, rng=0)
    with tg.no_grad():
        states, _ = tg.scan(cell, np.repeat(y[:500, None], 2, axis=1), starts)
    apart[radius] = np.linalg.norm(states.numpy()[:, 0] - states.numpy()[:, 1], axis=-1)
    print(f"radius {radius:<4g}  after 500 steps {apart[radius][-1]:.1e} apart")

# %%
# **Fitting.** 300 units, the first 100 steps left out.

net = nn.EchoStateNetwork(300, leak=0.3, spectral_radius=1.25, input_scaling=0.5, bias_scaling=0.5, ridge=1e-8,
                          washout=100, rng=0)  # fmt: skip
net.fit(y[:TRAIN], y[1 : TRAIN + 1])
with tg.no_grad():
    echoes, _ = tg.scan(net.reservoir_, y[:400, None])

# %%
# **Running freely.** Each output is the next input. In a chaotic system each error grows in the end; until then the
# forecast is as good as the series itself.

free, true = net.generate(FREE)[:, 0], y[TRAIN + 1 :, 0]
lost = int(np.argmax(abs(free - true) > 0.1)) if (abs(free - true) > 0.1).any() else FREE
print(f"mean squared error of the first 500 free steps: {np.mean((free - true)[:500] ** 2):.1e}")

# %%
# All three.

figure, (states, forgets, runs) = plt.subplots(3, 1, figsize=(9, 8.4), layout="constrained")
states.plot(echoes.numpy()[100:, 0, 10:18], linewidth=1)
states.plot(y[100:400], "0.5", linestyle="--", linewidth=2.2, label="input")
states.set(title="What eight of 300 units make of the input", xlabel="step", ylabel="state", xlim=(0, 300))
states.legend(loc="upper left", bbox_to_anchor=(1, 1))
for color, (radius, far) in zip(("C2", "C0", "C1", "C3"), apart.items()):
    forgets.semilogy(np.where(far > 1e-12, far, np.nan), color, label=f"{radius:g}")
forgets.set(title="Two starts, one input: they forget where they came from, or not", xlabel="step", xlim=(0, 500),
            ylabel="distance of states")  # fmt: skip
forgets.legend(title="radius", loc="upper left", bbox_to_anchor=(1, 1))
runs.plot(true, "0.5", linewidth=3, label="the series")
runs.plot(free, "C1", linewidth=1.2, label="free run")
runs.axvline(lost, color="C3", linestyle=":", label="off by .1")
runs.set(title=f"{FREE} steps by itself: right for about {lost // 50 * 50}", xlabel="step of the free run", ylabel="y",
         xlim=(0, FREE))  # fmt: skip
runs.legend(loc="upper left", bbox_to_anchor=(1, 1))
