"""
The same map, with complex numbers
==================================

A recurrent network without input iterates a map. That of the lectures' cobweb, ``x → x² + c`` with ``c = 0.15``, is
famous when ``x`` and ``c`` may be complex: the Mandelbrot set is made of those ``c`` for which the iterates that begin
at 0 stay bounded. ``c = 0.15`` is inside: its iterates fall into a sink. ``c = 0.26`` lies just outside, and escapes,
slowly. Bounded or not, and how sensitive to ``c``: at the border, both change within no distance at all.
"""

import matplotlib.pyplot as plt
import numpy as np

# %%
# NumPy is enough here: nothing is differentiated. How many steps does each ``c`` take to leave the disc of radius 2,
# from which nothing returns?

STEPS = 60
c = np.linspace(-2.1, 0.7, 560) + 1j * np.linspace(-1.2, 1.2, 480)[:, None]
x, escape = np.zeros_like(c), np.full(c.shape, np.nan)
for step in range(STEPS):
    x = np.where(np.abs(x) <= 2, x * x + c, x)
    escape[np.isnan(escape) & (np.abs(x) > 2)] = step + 1


def steps_to_escape(c: float) -> int | None:
    x = 0.0
    for step in range(1000):
        x = x * x + c
        if abs(x) > 2:
            return step + 1
    return None


for point in 0.15, 0.26:
    print(f"c = {point}: steps to escape, of 1,000: {steps_to_escape(point)}")

# %%
# What never escaped is left empty.

figure = plt.figure(layout="constrained")
shades = plt.pcolormesh(c.real, c.imag, np.log10(escape), cmap="cividis", rasterized=True)
plt.colorbar(shades, label="log10 of the steps until |x| > 2")
plt.plot(0.15, 0, "o", color="C1", label="c = 0.15: stays, and settles")
plt.plot(0.26, 0, "x", color="C3", label="c = 0.26: escapes")
plt.title("x → x² + c from 0: where does it stay bounded?")
plt.xlabel("real part of c")
plt.ylabel("imaginary part of c")
plt.gca().set_aspect("equal")
figure.legend(loc="outside lower center", ncols=2)
