"""
Phase plots: which way it moves
===============================

What iterating a function does, in one picture without time: arrows, towards sinks (filled) and away from sources
(hollow). Above, Grosse's ``x → x² + 0.15``, whose fixed points are a sink and a source. Below, the same of a network of
one unit, ``h → tanh(2 h)``: two sinks, and at 0 the source between them. Right: two units. In a plane, there are also
saddles, towards which it goes in one direction, and away in the other; they sit on the borders between two basins.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.analysis import as_map, phase_line, phase_portrait

# %%
# One number. Over the arrows is how far a step moves, ``f(x) - x``: where it is above 0, to the right.

square = phase_line(lambda x: x * x + 0.15, (-0.5, 1.2))
unit = phase_line(lambda h: tg.tanh(2 * h), (-1.5, 1.5))
print(square, unit, sep="\n\n")

# %%
# Two units, as a cell of the package, that gets no input. Each of them excites itself, and the other a little.

cell = nn.RNNCell(1, 2, bias=False, rng=0, dtype=np.float64)
cell.weight_hh.data = np.array([[1.5, 0.25], [0.25, 1.5]])
portrait = phase_portrait(as_map(cell), (-1.2, 1.2), (-1.2, 1.2), resolution=17)
print(portrait)

figure = plt.figure(figsize=(11.4, 4.8), layout="constrained")
axes = figure.subplot_mosaic([["square", "plane"], ["unit", "plane"]], width_ratios=[1, 1.15])
square.plot(axes["square"], arrows=14)
axes["square"].set_title("x² + 0.15: a sink and a source")
axes["square"].legend(loc="upper right", fontsize="small")
unit.plot(axes["unit"], arrows=14)
axes["unit"].set(title="tanh(2 h): remembers a sign", xlabel="h", ylabel="f(h) - h")
axes["unit"].lines[1].set_label("f(h) - h")  # the first is the arrows' line
axes["unit"].legend(loc="lower left", fontsize="small")
portrait.plot(axes["plane"], cmap=ListedColormap(plt.cm.viridis(np.linspace(0.25, 0.7, 256))))
axes["plane"].set_title("Two tanh units: four sinks, four saddles, one source", y=1.08)
axes["plane"].set(xlabel="h[0]", ylabel="h[1]")
figure.axes[-1].set_ylabel("log10 of ‖f(h) - h‖")  # of the colour bar
