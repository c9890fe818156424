"""Modules: what holds parameters, under names. What a module computes is its ``forward``; the tape does the rest.

There is no registry: a module *is* its attributes. Whatever tensors and modules are found in them, or in lists, tuples
and dicts of them, belong to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from ..arrays import has_gradient, move, new_array
from ..errors import described
from ..tensor import Tensor, tensor
from .exchange import array_in

_lent: Counter[Tensor] = Counter()  # what is a parameter, though it may be computed: of a module under ``replaced``


class Parameter(Tensor):
    """A tensor that is trained: one of a module's parameters, also while ``requires_grad`` is off.

    It is given new values by ``p.data = array``. ``p -= 0.1 * p.grad`` would make another tensor, called p, and train
    nothing, so it is an error. ``copy.deepcopy`` copies its gradient, too; a pickle has its values only.

    Parameters
    ----------
    data : array or Tensor
        The values at first.
    requires_grad : bool, optional
        Whether gradients are computed for it.

    Examples
    --------
    >>> Parameter(np.zeros(2))
    tensor([0., 0.], requires_grad=True)
    """

    def __init__(self, data: Any, requires_grad: bool = True):
        made = tensor(data)
        made.requires_grad = requires_grad
        super().__init__(made._data, made.node)

    def __reduce__(self) -> tuple:
        return Parameter, (self._data, self.requires_grad)

    def _not_in_place(self, other: Any) -> NoReturn:
        raise TypeError("an assignment like p -= y would make a new tensor, and leave this parameter as it is: write "
                        "p.data = p.data - y, or use an optimiser; where a new tensor is meant, x = p - y")  # fmt: skip

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = __imatmul__ = _not_in_place


class Module:
    """The base of all that has parameters: a subclass sets them as attributes, and computes in ``forward``.

    A :class:`~tinygrad_rnn.nn.Parameter` (or any tensor made with ``requires_grad=True``) is trained; a tensor that
    needs no gradient is a constant, saved and moved along with the parameters. Tensors that were computed do not belong
    to the module.

    A module can be pickled, and copied with ``copy.deepcopy``: weights and generators that are shared within it are
    shared within the copy. (``copy.copy`` makes another module of the same weights.)

    Attributes
    ----------
    training : bool
        Whether it is being trained: see :meth:`train`.

    Examples
    --------
    >>> from tinygrad_rnn.nn import Linear
    >>> class Perceptron(Module):
    ...     def __init__(self, rng):
    ...         self.layers = [Linear(2, 3, rng=rng), Linear(3, 1, rng=rng)]
    ...     def forward(self, x):
    ...         hidden, out = self.layers
    ...         return out(np.tanh(hidden(x)))
    >>> model = Perceptron(np.random.default_rng(0))
    >>> model
    Perceptron(
      layers.0: Linear(2, 3)
      layers.1: Linear(3, 1)
    )
    >>> [name for name, p in model.named_parameters()]
    ['layers.0.weight', 'layers.0.bias', 'layers.1.weight', 'layers.1.bias']
    >>> model(np.ones((5, 2), np.float32)).shape
    (5, 1)
    """

    training: bool = True

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return self.forward(*inputs, **keywords)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. A parameter gives way to another, or to None: an array would not be trained, nor saved."""
        computed = isinstance(value, Tensor) and value.node is not None and value.node.op is not None
        kept = value is None or (isinstance(value, Tensor) and not computed)
        if not kept and isinstance(self.__dict__.get(name), Parameter):
            what = "what was computed" if computed else described(value)
            raise TypeError(f"{name}: it is a parameter of {type(self).__name__}, and {what} would take its place, and "
                            f"not be trained: give it new values, module.{name}.data = array; assign an nn.Parameter; "
                            "or, for a block, module.replaced(...)")  # fmt: skip
        super().__setattr__(name, value)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """What the module computes, when it is called."""
        raise NotImplementedError(f"{type(self).__name__}: a module computes in forward(), and this one has none")

    # What it holds

    def named_members(self) -> Iterator[tuple[str, Module | Tensor]]:
        """The modules, parameters and constants in its own attributes, with their names there."""

        def found(name: str, value: Any) -> Iterator:
            if isinstance(value, Tensor):
                if isinstance(value, Parameter) or value in _lent or value.node is None or value.node.op is None:
                    yield name, value
            elif isinstance(value, Module):
                yield name, value
            elif isinstance(value, (dict, list, tuple)):
                for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                    yield from found(f"{name}.{key}", item)

        for name, value in vars(self).items():
            yield from found(name, value)

    def _walk(self, prefix: str = "", above: tuple = ()) -> Iterator[tuple[str, Module | Tensor]]:
        """The module and all below it, with dotted names; what is shared comes under each of its names.

        All other methods go by it: a subclass may call its weights by other names here.
        """
        yield prefix, self
        for name, value in self.named_members():
            name = f"{prefix}.{name}" if prefix else name
            if isinstance(value, Tensor):
                yield name, value
            elif value is not self and value not in above:  # a module may know the one it is in
                yield from value._walk(name, (*above, self))

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, x in self._walk():
            if isinstance(x, Tensor) and tensors.setdefault(name, x) is not x:
                raise ValueError(f"{type(self).__name__}: two tensors in it are called {name!r}, for example "
                                 "by keys 0 and '0' of a dict, or by a key with a dot: rename one")  # fmt: skip
        return tensors

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters with their dotted names, in the order of the attributes; a shared one comes once."""
        seen = set()
        for name, x in self._tensors().items():
            if x not in seen and (isinstance(x, Parameter) or x.requires_grad or x in _lent):
                seen.add(x)
                yield name, x

    def parameters(self) -> Iterator[Tensor]:
        """The parameters, each once."""
        return (p for _, p in self.named_parameters())

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module, called ``""``, and those below it with their dotted names; a shared one comes once."""
        names: dict[Module, str] = {}
        for name, x in self._walk():
            if isinstance(x, Module):
                names.setdefault(x, name)
        return ((name, module) for module, name in names.items())

    def modules(self) -> Iterator[Module]:
        """This module and those below it, each once."""
        return (module for _, module in self.named_modules())

    # What can be done to all of it

    def state_dict(self) -> dict[str, np.ndarray]:
        """The parameters and constants, as NumPy arrays under their dotted names.

        They are what the values are now: training makes new arrays, and does not write into these.
        """
        return {name: x.numpy() for name, x in self._tensors().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take the values of a :meth:`state_dict`; all is checked before anything changes.

        Parameters
        ----------
        state : mapping of str to array
            Arrays (or tensors, PyTorch's too) under the names of this module's parameters and constants.
        strict : bool, optional
            Whether names that are missing, or not known here, are errors too.

        Raises
        ------
        ValueError
            What does not fit, all of it: names, shapes, dtypes, and two values for what is one tensor here.
        TypeError
            ``state`` is no dict.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a dict of arrays by name, like state_dict()'s, got {described(state)}")
        tensors, wrong = self._tensors(), []
        arrays: dict[str, Any] = {}
        first: dict[Tensor, str] = {}
        for name, x in tensors.items():
            if name not in state:
                continue
            try:
                array = arrays[name] = new_array(array_in(state[name]))
            except (TypeError, ValueError) as error:
                wrong.append(f"{name}: {error}")
                continue
            if (array.shape, array.dtype) != (x.shape, x.dtype):
                wrong.append(f"{name}: expected {x.dtype} {x.shape}, got {described(array)}")
            elif (other := first.setdefault(x, name)) != name and arrays[other].tobytes() != array.tobytes():
                wrong.append(f"{other}, {name}: one tensor in this module, and two values")
        if strict:
            wrong += [f"{name}: missing" for name in tensors if name not in state]
            wrong += [f"{name}: not in this module" for name in state if name not in tensors]
        if wrong:
            raise ValueError("\n  ".join([f"state: does not fit this {type(self).__name__}:", *wrong]))
        for name, array in arrays.items():
            tensors[name]._data = move(array, tensors[name].device)

    @contextmanager
    def replaced(self, weights: Mapping[str, Any]) -> Iterator[None]:
        """In this block, parameters are these tensors, with their place on the tape; after it, they are what they were.

        So a function that uses a module becomes a function of its weights: one to be differentiated any number of
        times, or checked. What a checkpoint computes again, on the way back, has to be computed in the block, too; and
        no other thread may use the module meanwhile.

        Parameters
        ----------
        weights : mapping of str to Tensor or array
            By the names of the parameters, of their shapes and dtypes; those that are not named stay.

        Raises
        ------
        ValueError
            A name is not known here, or a shape, a dtype or a device is another.

        Examples
        --------
        >>> import tinygrad_rnn as tg
        >>> from tinygrad_rnn import nn
        >>> cell, xs = nn.RNNCell(2, 3, rng=0, dtype=np.float64), np.ones((4, 1, 2))
        >>> def energy(weights):
        ...     with cell.replaced(weights):
        ...         return (tg.scan(cell, xs)[0] ** 2).sum()
        >>> tg.check_gradients(energy, dict(cell.named_parameters()), order=2)
        """
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights: expected a dict of tensors by name, got {described(weights)}")
        tensors = self._tensors().items()
        parameters = {n: p for n, p in tensors if isinstance(p, Parameter) or p.requires_grad or p in _lent}
        wrong = [f"{name}: not a parameter of this module" for name in weights if name not in parameters]
        given = {n: x if isinstance(x, Tensor) else tensor(x) for n, x in weights.items() if n in parameters}
        first: dict[Tensor, str] = {}
        for name, x in given.items():
            p = parameters[name]
            if (x.shape, x.dtype, x.device) != (p.shape, p.dtype, p.device):
                wrong.append(f"{name}: expected {described(p)}, got {described(x)}")
            if (other := first.setdefault(p, name)) != name:
                wrong.append(f"{other}, {name}: one tensor in this module, and two values")
        if wrong:
            raise ValueError("\n  ".join([f"weights: do not fit this {type(self).__name__}:", *wrong]))
        before: dict[Tensor, tuple] = {}
        try:
            for name, x in given.items():
                p = parameters[name]
                _lent[p] += 1
                before[p] = p._data, p.node
                p._data, p.node = x._data, x.node
            yield
        finally:
            for p, (data, node) in before.items():
                p._data, p.node = data, node
                _lent[p] -= 1
                if not _lent[p]:
                    del _lent[p]

    def to(self, device: str) -> Module:
        """Move the parameters (with their gradients) and constants to a device, in place; return the module.

        Parameters
        ----------
        device : str
            ``"cpu"``, or a GPU, as ``"cuda:0"``.

        Returns
        -------
        Module
            The module itself.
        """
        for x in self._tensors().values():
            x._data = move(x._data, device)
            if x.grad is not None:
                x.grad = Tensor(move(x.grad._data, device))
        return self

    def astype(self, dtype: Any) -> Module:
        """Convert the parameters (with their gradients) and floating-point constants, in place; return the module.

        Integers, and random generators, stay as they are. What was computed before has no gradient by the parameters
        any more, and an optimiser has to be made anew.

        Parameters
        ----------
        dtype : dtype
            A floating-point one, such as ``np.float64``.

        Returns
        -------
        Module
            The module itself.

        Raises
        ------
        TypeError
            It is no floating-point dtype.
        ValueError
            A number is too large for it. Then nothing has changed.
        RuntimeError
            It is called in a block of :meth:`replaced`.

        Examples
        --------
        >>> from tinygrad_rnn import nn
        >>> cell = nn.GRUCell(2, 3, rng=0).astype(np.float64)
        >>> nn.scan(cell, np.ones((5, 1, 2)))[0].dtype
        dtype('float64')
        """
        dtype, new = floating_dtype(dtype), {}
        for name, x in self._tensors().items():
            if x in _lent:
                raise RuntimeError(f"{name}: something else takes its place here: convert the module outside of "
                                   "replaced()")  # fmt: skip
            if x.dtype == dtype or not has_gradient(x.dtype):
                continue
            grad = None if x.grad is None else converted(f"{name}.grad", x.grad._data, dtype)
            new[x] = converted(name, x._data, dtype), grad
        for x, (data, grad) in new.items():
            made = Tensor(data)
            made.requires_grad = x.requires_grad
            x._data, x.node = data, made.node
            if grad is not None:
                x.grad = Tensor(grad)
        return self

    def train(self, mode: bool = True) -> Module:
        """Set ``.training``, here and below: some modules compute differently while they are trained."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """The opposite of :meth:`train`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self.parameters():
            if p.requires_grad:
                p.grad = None

    # How it is shown

    def extra_repr(self) -> str:
        """What a subclass says of itself in its repr, between the brackets."""
        return ""

    def __repr__(self) -> str:
        inside = [f"{name}: {x!r}" for name, x in self.named_members() if isinstance(x, Module) and x is not self]
        lines = "\n".join(([self.extra_repr()] if self.extra_repr() else []) + inside)
        lines = f"\n  {lines.replace(chr(10), chr(10) + '  ')}\n" if inside else lines
        return f"{type(self).__name__}({lines})"


def floating_dtype(dtype: Any) -> np.dtype:
    """The dtype, if numbers of it can have a gradient."""
    try:
        found = np.dtype(dtype)
        if dtype is not None and has_gradient(found):
            return found
    except TypeError:
        pass
    raise TypeError(f"dtype: expected a floating-point dtype, such as np.float64, got {dtype!r}")


def converted(name: str, array: Any, dtype: np.dtype) -> Any:
    """The numbers in another dtype, if it has room for them."""
    with np.errstate(over="ignore"):
        new = array.astype(dtype)
    lost = np.isfinite(array) & ~np.isfinite(new)
    if lost.any():
        raise ValueError(f"{name}: {abs(array[lost]).max():.3g} is too large for {dtype}")
    return new
