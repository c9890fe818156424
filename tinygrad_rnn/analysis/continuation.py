"""A curve f(x, p) = x in the plane of state and parameter, followed by its length (pseudo-arclength continuation)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..modes import no_grad
from ..transforms import value_and_grad

STEP = 1 / 200  # of a curve, where both axes are 1 long


def slopes(f: Callable, x: float, p: float) -> tuple[float, float, float]:
    """f(x, p) - x, and its derivatives by x and p."""
    with no_grad(), np.errstate(all="ignore"):
        y, (dx, dp) = value_and_grad(f, (0, 1))(float(x), float(p))
    return y.item() - x, dx.item() - 1, dp.item()


def follow(f: Callable, z: np.ndarray, box: np.ndarray, way: int) -> list[np.ndarray]:
    """The curve from a point on it, one way, until it leaves the box, or is back, where it ends with that point."""
    scale, curve = box[1] - box[0], [z]
    tangent, step = way * along(slopes(f, *z), scale), STEP
    while len(curve) < 50 / STEP and step > STEP * 1e-4:
        new = corrected(f, curve[-1], tangent, step, scale)
        turned = None if new is None else along(slopes(f, *new), scale)
        if turned is None or abs(turned @ tangent) < 0.9:  # too far for a straight line
            step /= 2
            continue
        if ((new < box[0]) | (new > box[1])).any():
            curve.append(corrected(f, curve[-1], tangent, to_edge(curve[-1], new, box) * step, scale))
            break
        curve.append(new)
        tangent, step = turned * np.sign(turned @ tangent), min(STEP, 2 * step)
        if len(curve) > 10 and np.linalg.norm((new - z) / scale) < STEP / 2:
            return [*curve, z]
    return [z for z in curve if z is not None]


def along(gap: tuple, scale: np.ndarray) -> np.ndarray:
    """The tangent of the curve, where both axes are 1 long."""
    _, dx, dp = gap
    t = np.array([-dp * scale[1], dx * scale[0]])
    return t / (np.linalg.norm(t) or 1)


def corrected(f: Callable, z: np.ndarray, tangent: np.ndarray, step: float, scale: np.ndarray) -> np.ndarray | None:
    """The point of the curve that is so far along the tangent, by Newton's method; None, if it does not get there."""
    u = tangent * step
    for _ in range(12):
        gap, dx, dp = slopes(f, *(z + u * scale))
        matrix = np.array([[dx * scale[0], dp * scale[1]], tangent])
        if not np.isfinite([gap, dx, dp]).all():
            return None
        change = np.linalg.lstsq(matrix, -np.array([gap, tangent @ u - step]), rcond=None)[0]
        u = u + change
        if np.linalg.norm(change) < 1e-13 or (abs(gap) < 1e-14 * (1 + abs(z[0])) and np.linalg.norm(change) < 1e-9):
            return z + u * scale
    return z + u * scale if np.linalg.norm(change) < 1e-9 else None


def to_edge(inside: np.ndarray, outside: np.ndarray, box: np.ndarray) -> float:
    """Which part of the way from one to the other is in the box."""
    way = outside - inside
    with np.errstate(all="ignore"):
        parts = np.where(way > 0, (box[1] - inside) / way, np.where(way < 0, (box[0] - inside) / way, np.inf))
    return float(np.clip(parts.min(), 0, 1))
