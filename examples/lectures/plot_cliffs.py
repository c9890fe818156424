"""
Cliffs, one for each sample
===========================

Where gradients vanish almost everywhere, and explode at edges, a loss is made of plains and cliffs. Grosse and Murai
draw it over the bias of the hidden units: for single samples, and on average, the cost. Here it is, of a tanh network
with three units that reads 12 numbers. A single sample's loss (thin lines) is flat, and then falls: its slope says
nothing of where it would be lower, or far too much. The cliffs of other samples are elsewhere; so "in expectation, the
cost may be fairly smooth". Below, the slopes. The mean of 80 samples does look smooth; but its slope is still the sum
of a few very steep ones, from whichever cliffs are near, and of nothing. That is what a gradient by a batch is made
of.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.analysis import profile

SAMPLES, STEPS, TARGET = 80, 12, 0.5
xs = np.random.default_rng(0).standard_normal((STEPS, SAMPLES, 1))
W = np.array([[1.7, -0.6, -0.2], [-0.6, 2.4, 0.4], [-0.2, 0.4, 1.7]])
u, v = np.array([-0.6, 1.0, -0.3]), np.array([1.3, 1.0, 0.0])


def losses(b):
    """The loss of each sample, for all biases b at once, (n, SAMPLES)."""
    h = np.zeros((len(b), SAMPLES, 3))
    for x in xs:
        h = tg.tanh(h @ W + x * u + tg.reshape(b, (-1, 1, 1)))
    return (h @ v - TARGET) ** 2


# %%
# ``profile`` takes the losses, and by the tape their derivatives. (Of a model as it is, ``analysis.along`` makes such a
# function: of any entry of its weights, or of a direction of all of them.)

found = profile(losses, np.linspace(-1.5, 1.5, 801), vectorized=True)
print(found)

figure, (above, below) = plt.subplots(2, 1, figsize=(8, 6.4), sharex=True, layout="constrained")
for sample in range(4):
    above.plot(found.at, found.losses[:, sample], linewidth=0.9, alpha=0.8)
    below.semilogy(found.at, np.abs(found.slopes[:, sample]), linewidth=0.9, alpha=0.8)
above.plot(found.at, found.mean, color="C5", linewidth=2.5, label=f"mean of {SAMPLES} samples; thin: 4 of them")
below.semilogy(found.at, np.abs(found.mean_slope), color="C5", linewidth=1.3, label="of the mean; thin: of the samples")
above.set(title="Each sample has its own cliffs; the mean looks smooth", ylabel="loss")
below.set(title="... and its slope is not", xlabel="bias b of the hidden units", ylabel="|slope|", ylim=(1e-4, 1e4))
for axes in (above, below):
    axes.legend(loc="upper right")
