"""Ways around a module: its input also reaches the output directly, so a gradient can pass it by.

The same around a cell, at each step, are the wrappers ``Residual``, ``Highway`` and ``Dense`` in ``wrappers.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..errors import described
from ..ops import concatenate, sigmoid
from .linear import Linear
from .module import Module, Parameter


class ResidualBlock(Module):
    """y = x + F(x) (He et al., 2016): the gradient by x is that by y, and what passes back through F.

    One hidden layer, ``nn.Sequential(nn.Linear(n, m), tg.tanh, nn.Linear(m, n, bias=False))``, is
    ``h = φ(W₁ x + b₁), y = x + W₂ h``.

    Parameters
    ----------
    module : Module or callable
        F, whose output has the shape of its input.

    Examples
    --------
    >>> ResidualBlock(np.tanh)(np.array([0.0, 100.0]))
    array([  0., 101.])
    """

    def __init__(self, module: Callable):
        self.module = module

    def forward(self, x: Any) -> Any:
        """x + F(x)."""
        return x + alike(self.module(x), x, type(self).__name__)


class HighwayBlock(Module):
    """y = T * F(x) + (1 - T) * x, where T = σ(W x + b) is a learned gate (Srivastava et al., 2015).

    Parameters
    ----------
    module : Module or callable
        F, whose output has the shape of its input.
    size : int
        Of x and y on the last axis.
    bias : float, optional
        What b is at first. It is negative, so that the block begins near the identity.
    rng : int or Generator, optional
        For W: uniform within ±1/√size.
    dtype : dtype, optional
        Of W and b: by default that of F's parameters.

    Examples
    --------
    >>> HighwayBlock(np.tanh, 2, bias=-1e9)(np.array([[0.5, 100.0]], np.float32)).data
    array([[  0.5, 100. ]], dtype=float32)
    """

    def __init__(self, module: Callable, size: int, bias: float = -1.0, *, rng: Any = None, dtype: Any = None):
        self.module, self.transform = module, transform_gate(module, size, bias, rng, dtype)

    def forward(self, x: Any) -> Any:
        """x and F(x), mixed by the gate."""
        return x + sigmoid(self.transform(x)) * (alike(self.module(x), x, type(self).__name__) - x)


class DenseBlock(Module):
    """Each module gets the input and the outputs of all modules before it, concatenated (Huang et al., 2017).

    So is the output: x, then what each module made, on the last axis.

    Parameters
    ----------
    modules : iterable of Module or callable
        The first takes as many features as x has, and each later one in addition what those before it give.

    Examples
    --------
    >>> DenseBlock([np.tanh, lambda x: x.sum(axis=-1, keepdims=True)])(np.array([0.0, 100.0]))
    array([  0., 100.,   0.,   1., 101.])
    """

    def __init__(self, modules: Iterable[Callable]):
        self.layers = list(modules)

    def forward(self, x: Any) -> Any:
        """x, and what each module made, on the last axis."""
        for module in self.layers:
            x = concatenate([x, module(x)], axis=-1)
        return x


def alike(y: Any, x: Any, name: str) -> Any:
    """y, if it has the shape of x."""
    if y.shape != x.shape:
        raise ValueError(f"{name}: the output is added to the input, so their sizes must agree; got an output "
                         f"{described(y)} of an input {described(x)}: bring one to the other's size, with nn.Linear, "
                         "or concatenate them")  # fmt: skip
    return y


def transform_gate(module: Any, size: int, bias: float, rng: Any, dtype: Any) -> Linear:
    """The affine map of a highway's gate."""
    gate = Linear(size, size, rng=rng, dtype=dtype_of(module, dtype))
    gate.bias = Parameter(np.full(size, bias, gate.weight.dtype))
    return gate


def dtype_of(module: Any, dtype: Any = None) -> Any:
    """The dtype for weights beside a module's, unless one is asked for: that of its parameters, or float32."""
    parameters = module.parameters() if dtype is None and isinstance(module, Module) else ()
    return dtype or next((p.dtype for p in parameters), np.float32)
