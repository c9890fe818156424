"""Series as users give them to an echo-state network, in any layout, and as it takes them: (time, batch, features).

What is no number, not finite, or has another layout is refused here; what may not go together, by who asks for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import is_array
from ..errors import ShapeError, described
from ..tensor import bare
from .readout import floats


class Series(NamedTuple):
    """Series as (time, batch, features); of different lengths, padded with 0."""

    data: np.ndarray
    lengths: np.ndarray | None
    layout: str  # how they came: "one", "batch", or "list"
    flat: bool  # whether they came without an axis of features

    @property
    def about(self) -> str:
        return (
            f"{self.lengths.tolist()} steps"
            if self.lengths is not None
            else f"{described(self.data)} (time, batch, features)"
        )


class Given(NamedTuple):
    """Inputs and targets, both (time, batch, features)."""

    x: np.ndarray
    y: Any
    lengths: np.ndarray | None
    layout: str
    flat: bool

    def heard(self, feedback: bool, before: Any = None) -> np.ndarray:
        """What the reservoir hears: the inputs; with feedback, also the target of the step before."""
        if not feedback:
            return self.x
        before = np.zeros_like(self.y[:1]) if before is None else before[None].astype(self.y.dtype)
        return np.concatenate([self.x, np.concatenate([before, self.y[:-1]])], axis=-1)

    def samples(self, features: Any, skipped: int, direct: bool = False) -> tuple[Any, np.ndarray]:
        """Features (direct: with the inputs) and targets of all steps but the first few of each series, in rows."""
        counted = np.ones(self.y.shape[:2], bool)
        counted[:skipped] = False
        if self.lengths is not None:
            counted &= np.arange(len(counted))[:, None] < self.lengths
        if direct:
            features = np.concatenate([features, self.x], axis=-1)
        return None if features is None else features[counted], self.y[counted]

    def last_targets(self) -> np.ndarray:
        """The target of the last step of each series."""
        last = np.full(self.y.shape[1], len(self.y)) if self.lengths is None else self.lengths
        return self.y[last - 1, np.arange(len(last))]

    def laid_out(self, outputs: np.ndarray, flat: bool) -> Any:
        """Outputs (time, batch, features), as the inputs came."""
        if self.layout == "batch":
            return outputs
        if self.layout == "list":
            return [outputs[:n, i, 0] if flat else outputs[:n, i] for i, n in enumerate(self.lengths.tolist())]
        return outputs[:, 0, 0] if flat else outputs[:, 0]


def series(name: str, value: Any, dtype: Any, flat: bool = False) -> Series:
    """What is given as one series, several, or a list of them; flat: whether it may lack the axis of features."""
    if isinstance(value, (list, tuple)) and value and all(is_array(bare(part)) for part in value):
        parts = [finite(f"{name}[{i}]", part) for i, part in enumerate(value)]
        if all(part.ndim == 2 or (flat and part.ndim == 1) for part in parts):
            is_flat = all(part.ndim == 1 for part in parts)
            parts = [part[:, None] if part.ndim == 1 else part for part in parts]
            if len({part.shape[1] for part in parts}) > 1:
                raise ShapeError(
                    f"{name}: expected series of the same features, got {[part.shape[1] for part in parts]}"
                )
            lengths = np.array([len(part) for part in parts])
            data = np.zeros((lengths.max(), len(parts), parts[0].shape[1]), dtype)
            for i, part in enumerate(parts):
                data[: len(part), i] = part
            return Series(data, lengths, "list", is_flat)
    data = finite(name, value)
    if data.ndim not in ((1, 2, 3) if flat else (2, 3)):
        hint = f": of one feature, pass {name}[:, None]" if data.ndim == 1 else ""
        raise ShapeError(f"{name}: expected (time, features), (time, batch, features), or a list of the first, got "
                         f"{described(data)}{hint}")  # fmt: skip
    data = data.astype(dtype)
    if data.ndim == 3:
        return Series(data, None, "batch", False)
    return Series(data[:, None, None] if data.ndim == 1 else data[:, None], None, "one", data.ndim == 1)


def finite(name: str, value: Any) -> np.ndarray:
    found = floats(name, value)
    if not np.isfinite(found).all():
        place = tuple([int(i) for i in np.argwhere(~np.isfinite(found))[0]])
        raise ValueError(f"{name}: expected finite numbers, got {found[place]} at {list(place)}")
    return found
