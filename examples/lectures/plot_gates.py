"""
What a cell remembers, character by character
=============================================

The lectures show cells of a large network that keep track of something in a text: of quotes, of a line's length. Here
is one in a network of eight cells, trained for some seconds. The text is made so that there is something to keep:
within brackets stand the same letters as without, so only memory can tell whether ")" or "]" is due.

Three of the four corners of the gates are there. Between brackets f is near 1 and i near 0, which is to remember: the
carousel, learned. At "(" both are 0, which is to erase; at "[" both are open, which is to add. At ")" it adds as well,
to a cell that is about 0: so it need not overwrite. And at "]" f is a half: what "[" added is taken away again.
"""

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import bptt, nn, optim, tasks

CELLS, EPOCHS = 8, 150


def text(length, rng):
    made = []
    while len(made) < length:
        opens, closes = ("()", "[]")[rng.integers(2)]
        outside, inside = (rng.choice([*"abcd "], rng.integers(3, 12)).tolist() for _ in range(2))
        made += [*outside, opens, *inside, closes]
    return "".join(made[:length])


# %%
# **Training**, by truncated back-propagation through time, in windows of 50 characters.

rng = np.random.default_rng(6)
written = text(20_000, rng)
characters = tasks.characters(written, held_out=0)
symbols = np.eye(len(characters.alphabet), dtype=np.float32)
inputs, targets = tasks.streams(characters.train, 16)
cell, readout = nn.LSTMCell(len(symbols), CELLS, forget_bias=1.0, rng=rng), nn.Linear(CELLS, len(symbols), rng=rng)
parameters = [*cell.parameters(), *readout.parameters()]
optimizer = optim.Adam(parameters, lr=0.02)
for _ in range(EPOCHS):
    for _ in bptt.truncated(cell, symbols[inputs], lambda ys, t: nn.cross_entropy(readout(ys), targets[t]), k1=50):
        optim.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

# %%
# **Watching**, on a text it has not seen. The cell to be shown is chosen by the correlation of its state with what
# should be kept: 1 within ( ), -1 within [ ], 0 outside. This seed was chosen among nine, as one cell does it all in
# it, however the sums are rounded; with most of the others several cells share the work, and with one of them it is not
# learned in this time.

new = text(2_000, rng)
codes = characters.encode(new)
with tg.no_grad(), nn.watching(cell) as seen:
    ys, _ = tg.scan(cell, symbols[codes][:, None])
i, f, c = (np.concatenate([part.numpy() for part in seen[name]]) for name in "ifc")
kept, now = [], 0
for character in new:
    now = {"(": 1, "[": -1, ")": 0, "]": 0}.get(character, now)
    kept.append(now)
correlations = np.corrcoef(np.column_stack([c, kept]).T)[-1, :-1]
best = int(abs(correlations).argmax())

due = np.array([new[t + 1] in ")]" for t in range(len(new) - 1)])
p = tg.softmax(readout(ys), axis=-1).numpy()[:-1, 0][due]
right, wrong = (p[:, characters.encode(pair)] for pair in (")", "]"))
at = np.array([new[t + 1] == ")" for t in np.flatnonzero(due)])
share = np.where(at, right[:, 0], wrong[:, 0]) / (right[:, 0] + wrong[:, 0])
print(f"correlation of cell {best}: {correlations[best]:.2f}; where one is due, the right bracket has on average "
      f"{share.mean():.1%} of both brackets' probability")  # fmt: skip

# %%

shown = slice(0, 76)
places = np.arange(len(new))[shown]
figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 4.6), sharex=True, height_ratios=(3, 2), layout="constrained")
top.step(places, c[shown, best], where="mid", color="C0")
top.axhline(0, color="0.5", linewidth=0.8)
for t in places:
    if kept[t]:
        top.axvspan(t - 0.5, t + 0.5, color="C1" if kept[t] > 0 else "C2", alpha=0.2, linewidth=0)
for kind, color in ("( )", "C1"), ("[ ]", "C2"):
    top.fill_between([], [], color=color, alpha=0.3, label=f"within {kind}")
top.set(title="One cell of eight keeps which bracket is open", ylabel=f"state c of cell {best}")
top.legend(loc="upper left", bbox_to_anchor=(1, 1))
bottom.step(places, f[shown, best], where="mid", color="C3", label="forget gate f")
bottom.step(places, i[shown, best], where="mid", color="C4", label="input gate i")
bottom.set(ylabel="gates", ylim=(-0.05, 1.05), xlabel="character")
bottom.set_xticks(places, [new[t].replace(" ", "␣") for t in places], family="monospace")
bottom.legend(loc="upper left", bbox_to_anchor=(1, 1))
bottom.margins(x=0.01)
