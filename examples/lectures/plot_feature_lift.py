"""
The lift into features
======================

The lecture's picture of a reservoir is that of kernel methods: a fixed map into more dimensions, after which something
linear suffices. Its example is Φ(x₁, x₂) = (x₁², √2 x₁ x₂, x₂²). A circle, which no line separates from what is around
it, becomes a plane: x₁² + x₂² = r² is linear in Φ. And the product of two lifted points is the square of the product of
the points themselves, ⟨Φ(x), Φ(y)⟩ = ⟨x, y⟩², so one can have the one without computing the other.
"""

import matplotlib.pyplot as plt
import numpy as np

from tinygrad_rnn import nn


def lift(x):
    return np.stack([x[..., 0] ** 2, np.sqrt(2) * x[..., 0] * x[..., 1], x[..., 1] ** 2], axis=-1)


rng = np.random.default_rng(0)
x = rng.uniform(-1.2, 1.2, (500, 2))
squares = (x**2).sum(axis=1)
x = x[(abs(squares - 0.7) > 0.08) & (squares < 1.4)]
inside = (x**2).sum(axis=1) < 0.7
products = x @ x.T
print("largest difference of ⟨Φ(x), Φ(y)⟩ and ⟨x, y⟩²:", abs(lift(x) @ lift(x).T - products**2).max())

# %%
# A linear readout, the one that echo-state networks have, is fitted to the points as they are, and to the lifted
# ones.

target = np.where(inside, 1.0, -1.0)[:, None]
right = {}
for name, features in ("as they are", x), ("lifted", lift(x)):
    says = nn.Ridge(1e-6).fit(features, target).predict(features)
    right[name] = np.mean((says > 0) == (target > 0))
    print(f"{name}: {right[name]:.1%} right")

# %%

figure = plt.figure(figsize=(9.5, 4.4), layout="constrained")
flat, lifted = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2, projection="3d")
for of_class, color, marker in (inside, "C1", "o"), (~inside, "C0", "^"):
    flat.plot(*x[of_class].T, marker, color=color, markersize=4)
    lifted.plot(*lift(x[of_class]).T, marker, color=color, markersize=3)
angle = np.linspace(0, 2 * np.pi, 200)
circle = np.sqrt(0.7) * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
flat.plot(*circle.T, "0.5", linestyle="--")
flat.set(xlabel="x₁", ylabel="x₂", aspect="equal", title=f"A linear readout: {right['as they are']:.0%} right")
z1, z2 = np.meshgrid([0, 0.7], [-1.0, 1.0])
lifted.plot_surface(z1, z2, 0.7 - z1, color="C2", alpha=0.35, shade=False)
lifted.plot(*lift(circle).T, "0.5", linestyle="--")
for axis in (lifted.xaxis, lifted.yaxis, lifted.zaxis):
    axis.pane.set_alpha(0)
lifted.set(xlabel="x₁²", ylabel="√2 x₁ x₂", zlabel="x₂²", title=f"Of the lifted points: {right['lifted']:.0%} right")
lifted.set(xticks=[0, 0.7, 1.4], yticks=[-1, 0, 1], zticks=[0, 0.7, 1.4])
lifted.view_init(elev=14, azim=-74)
