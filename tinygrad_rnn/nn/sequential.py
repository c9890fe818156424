"""Modules one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import described
from .module import Module


class Sequential(Module):
    """Each module, or function, gets what the one before it returned.

    They can be counted, indexed and iterated over, and are attributes by their names.

    Parameters
    ----------
    *modules : Module or callable
        Modules, or functions of one argument. They are called "0", "1", ... in the names of parameters.
    **named : Module or callable
        More of them, under names of yours.

    Raises
    ------
    TypeError
        One of them is neither a module nor a function.
    ValueError
        A name is that of an attribute of the module itself.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn
    >>> perceptron = Sequential(nn.Linear(2, 3, rng=0), tg.tanh, out=nn.Linear(3, 1, rng=1))
    >>> [name for name, p in perceptron.named_parameters()]
    ['0.weight', '0.bias', 'out.weight', 'out.bias']
    >>> perceptron(np.ones((5, 2), np.float32)).shape
    (5, 1)
    """

    def __init__(self, *modules: Callable, **named: Callable):
        given = {str(i): module for i, module in enumerate(modules)} | named
        for name, module in given.items():
            if not callable(module):
                raise TypeError(f"Sequential: {name}: expected a module or a function, got {described(module)}")
            if hasattr(self, name) or name == "names":
                raise ValueError(f"Sequential: {name!r} is an attribute of the module itself: choose another name")
        self.names = tuple(given)
        vars(self).update(given)

    def forward(self, x: Any) -> Any:
        """What the last one returned."""
        for module in self:
            x = module(x)
        return x

    def __iter__(self) -> Iterator[Callable]:
        return (getattr(self, name) for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Callable:
        return getattr(self, self.names[i])

    def extra_repr(self) -> str:
        """The functions among them."""
        plain = [(name, f) for name, f in zip(self.names, self) if not isinstance(f, Module)]
        return ", ".join(f"{name}: {getattr(f, '__name__', f)}" for name, f in plain)
