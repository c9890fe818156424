"""
Eigenvalues, singular values, and a bound
=========================================

When do gradients vanish? If the largest eigenvalue of W is less than 1, says a lecture. Left, ``W = [[.9, 10],
[0, .9]]``, whose eigenvalues are .9: its powers go to 0, but only in the end. ‖W^k‖ first grows to 38.7, and is below 1
from k = 63 on. It is the largest *singular* value that bounds a step, ‖W‖ = 10.08; and a bound for k steps is ‖W‖^k.

Right: ``h' = φ(W h + ...)``, where φ' is at most γ. γ ‖W‖ < 1 is *sufficient* for gradients to vanish, and γ ‖W‖ > 1
*necessary* for them to explode. γ is 1 for tanh, and ¼ for the logistic function. So the sigmoid network must vanish,
although its ‖W‖ is 3.9 ("the bound is 1 because we have sigmoid nonlinearity", says the same lecture; it is 4); and of
the tanh networks, that of ‖W‖ = .95 must vanish, that of 1.5 does; only that of 5 explodes.
"""

import matplotlib.pyplot as plt
import numpy as np

from tinygrad_rnn import nn
from tinygrad_rnn.analysis import gradient_bound, step_jacobians

bound = gradient_bound(np.array([[0.9, 10.0], [0.0, 0.9]]), "linear")
print(bound)
powers, k = bound.powers(90), np.arange(91)
print(f"largest: {powers.max():.1f} at k = {powers.argmax()}; below 1 from k = {np.flatnonzero(powers >= 1)[-1] + 1}")

# %%
# The Jacobians of all steps, ``diag(φ') W``, by the tape, and the norms of their products. The largest singular value
# of each random W is made what the label says.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
left.semilogy(k, powers, color="C0", label="‖W^k‖")
left.semilogy(k, bound.radius**k, "--", color="C2", label="ρ(W)^k, ρ(W) = 0.9")
left.semilogy(k, np.exp(bound.log_bound(k)), "--", color="C1", label=f"‖W‖^k, ‖W‖ = {bound.norm:.2f}")
left.axhline(1, color="0.5", linewidth=0.8)
left.plot(63, powers[63], "o", color="C0")
left.annotate("k = 63", (63, powers[63]), xytext=(4, 6), textcoords="offset points")
left.set(title="ρ(W) < 1 does not bound ‖W^k‖", xlabel="k", ylabel="norm", ylim=(1e-4, 1e4))
left.legend(loc="upper right")

xs = 0.5 * np.random.default_rng(1).standard_normal((60, 1, 4))
for color, (nonlinearity, norm) in enumerate([("tanh", 5.0), ("tanh", 1.5), ("tanh", 0.95), ("sigmoid", 3.9)]):
    cell = nn.RNNCell(4, 32, nonlinearity=nonlinearity, rng=0, dtype=np.float64)
    cell.weight_hh.data = cell.weight_hh.data * (norm / np.linalg.norm(cell.weight_hh.data, 2))
    found, bound = step_jacobians(cell, xs), gradient_bound(cell)
    lags, says = np.arange(61), "must vanish" if bound.vanishes else "may explode"
    right.plot(lags, found.log_products()[::-1, 0] / np.log(10), color=f"C{color}",
               label=f"{nonlinearity}, ‖W‖ = {norm}, γ ‖W‖ = {bound.factor:.3g}: {says}")  # fmt: skip
    right.plot(lags, bound.log_bound(lags) / np.log(10), "--", color=f"C{color}", linewidth=1)
    print(f"{nonlinearity}, ‖W‖ = {norm}: {found}")
right.plot([], [], "--", color="0.5", linewidth=1, label="their bounds, (γ ‖W‖)^lag")
right.set(title="γ ‖W‖ < 1 suffices to vanish; > 1 says little", xlabel="lag, in steps",
          ylabel="log10 of ‖∂h_t / ∂h_(t - lag)‖", ylim=(-50, 22))  # fmt: skip
right.legend(loc="lower left", fontsize="small")
