"""
Basins of attraction, of a network that was trained
===================================================

A network that is to remember one of three symbols, in two tanh units. What training makes of it is a system with three
attractors, one for each: whatever it reads moves the state into a basin, and there it stays. The lectures show such a
picture of Hinton's, and say: within a coloured region gradients vanish, as whoever starts there ends at the same place;
on a border they blow up, as a small move leads to another attractor. Both can be computed. Left, the basins, with the
attractors, and a sequence of each symbol; right, how much the state some steps later depends on the state now, by the
derivative from the tape.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.analysis import as_map, basins, sensitivity

STEPS, SYMBOLS, BATCH = 20, 3, 64

# %%
# The first input is a symbol, the others are noise; the readout shall say at each step which symbol it was. (If it were
# asked at the end only, nothing would be learnt: the gradient vanishes, before there are any attractors to hold it.)

rng = np.random.default_rng(0)
cell = nn.RNNCell(SYMBOLS, 2, rng=rng, dtype=np.float64)
readout = nn.Linear(2, SYMBOLS, rng=rng, dtype=np.float64)
optimizer = optim.Adam([*cell.parameters(), *readout.parameters()], lr=0.03)
for _ in range(400):
    symbols = rng.integers(SYMBOLS, size=BATCH)
    xs = 0.2 * rng.standard_normal((STEPS, BATCH, SYMBOLS))
    xs[0] += 2 * np.eye(SYMBOLS)[symbols]
    hs, _ = tg.scan(cell, xs)
    loss = nn.cross_entropy(readout(hs), np.repeat(symbols[None], STEPS, axis=0))
    optimizer.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(optimizer.parameters, 1.0)
    optimizer.step()
print(f"loss {loss.item():.4f}")

# %%
# The trained cell, without input, from each state of a grid.

found = basins(cell, (-1, 1), (-1, 1), resolution=160, steps=100)
print(found)
slopes = sensitivity(cell, (-1, 1), (-1, 1), steps=5, resolution=160)

figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
found.plot(left)
hs = tg.scan(cell, xs)[0].numpy()
for symbol in range(SYMBOLS):
    one = np.flatnonzero(symbols == symbol)[0]
    left.plot(*np.vstack([np.zeros((1, 2)), hs[:, one]]).T, ".-", color="C1", linewidth=1, markersize=4)
left.set(title="Three symbols, three basins", xlabel="unit 1", ylabel="unit 2")
slopes.plot(right, vmin=-6)
right.set(title="After 5 steps the gradient is on the borders", xlabel="unit 1", ylabel="unit 2")

# %%
# With each step the border gets thinner, and steeper: after 20 steps no grid hits it. Halving does, between two starts
# that end in different basins; here is the derivative of the end by the first unit, on the border and beside it.

f = as_map(cell)


def end(first, steps):
    state = tg.stack([first, 0.0])
    for _ in range(steps):
        state = f(state)
    return state[0]


a, b = tg.tensor(-1.0), tg.tensor(1.0)
while (middle := (a + b) / 2).item() not in (a.item(), b.item()):
    a, b = (middle, b) if end(middle, 60).item() < 0 else (a, middle)
for steps in 5, 10, 20:
    beside, border = (tg.grad(end)(start, steps).item() for start in (a + 0.1, a))
    print(f"{steps:>2} steps: on the border {border:.2g}, and .1 beside {beside:.2g}")
