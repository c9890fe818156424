"""The tensor: an array, and the entry of the tape that made it.

A tensor is a value: nothing changes it once it is made, so what the tape keeps can be shared, not copied. Its operators
and most of its methods are the operations themselves; ``ops/methods.py`` puts them here, as they are built on tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .arrays import device_of, has_gradient, move, new_array, read_only, shared_array

if TYPE_CHECKING:
    from .tape import Node


class Tensor:
    """An array, and the entry of the tape that made it; no entry: a constant.

    Make one with :func:`~tinygrad_rnn.tensor`. ``x.data`` is the NumPy or CuPy array (NumPy's cannot be written into:
    assign a new one instead, ``x.data = ...``). Beside ``.shape .ndim .size .dtype .device .T .mT`` a tensor has
    NumPy's operators, comparisons (they give plain arrays), indexing and methods, and obeys NumPy's protocols:
    ``np.tanh(x)`` and ``array + x`` are recorded too.

    Parameters
    ----------
    data : array
        The values: held as they are, without a copy.
    node : Node, optional
        The entry of the tape.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> np.tanh(x) @ x[::-1]
    tensor(2.48721589, from=matmul)
    """

    __slots__ = ("_data", "node", "__weakref__")

    ufuncs: ClassVar[dict[Callable, Callable]] = {}  # NumPy's functions, and ours that take their place
    functions: ClassVar[dict[Callable, Callable]] = {}

    def __init__(self, data: Any, node: Node | None = None):
        self._data = data
        self.node = node

    # What it holds

    @property
    def data(self) -> Any:
        """The array, on the CPU as a read-only view, as the tape may depend on its values; assigning makes a copy."""
        return read_only(self._data)

    @data.setter
    def data(self, value: Any) -> None:
        array = new_array(bare(value))
        if array.shape != self.shape or array.dtype != self.dtype or device_of(array) != self.device:
            raise ValueError(
                f"data: expected {self.dtype} {self.shape} on {self.device}, "
                f"got {array.dtype} {array.shape} on {device_of(array)}; make a new tensor for another kind of array"
            )
        if self.node is not None and type(self.node) is not Leaf:
            raise RuntimeError("data: this tensor was computed; only a leaf can be given new data")
        self._data = array

    shape = property(lambda self: self._data.shape, doc="The length of each axis.")
    ndim = property(lambda self: self._data.ndim, doc="The number of axes.")
    size = property(lambda self: self._data.size, doc="The number of elements.")
    dtype = property(lambda self: self._data.dtype, doc="The kind of its numbers.")
    device = property(lambda self: device_of(self._data), doc='Where it is, ``"cpu"`` or ``"cuda:0"``.')

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array, copied to the host if they are on a GPU: what is done with it is not recorded.

        It cannot be written into; ``x.numpy().copy()`` can.
        """
        return read_only(move(self._data, "cpu"))

    def item(self) -> Any:
        """The only value, as a Python number."""
        return self._data.item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self._data.tolist()

    def detach(self) -> Tensor:
        """The same values as a constant: no gradient flows through it."""
        return Tensor(self._data)

    # Its place on the tape

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to it. May be set on a tensor that was not computed."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if self.node is not None and type(self.node) is not Leaf:
            raise RuntimeError("requires_grad: this tensor was computed; use x.detach() for a constant")
        if bool(wanted) != self.requires_grad:
            self.node = _leaf(self._data, "convert it first, astype(float)") if wanted else None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward`` has accumulated, a tensor or None; only leaves have one."""
        if self.node is None or type(self.node) is Leaf:
            return getattr(self.node, "grad", None)
        raise RuntimeError(f"grad: this tensor was computed (by {self.node.op.name}), and only leaves keep their "
                           "gradient; use tg.gradients(loss, [this])")  # fmt: skip

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if type(self.node) is not Leaf:
            raise RuntimeError("grad: only a tensor made with requires_grad=True has a gradient to set")
        kind = self.shape, self.dtype, self.device
        if value is not None and not (isinstance(value, Tensor) and (value.shape, value.dtype, value.device) == kind):
            raise ValueError(f"grad: expected None or a {self.dtype} tensor of shape {self.shape}, got {value!r}")
        self.node.grad = value

    def backward(self, g: Any = None, *, create_graph: bool = False, retain_graph: bool | None = None) -> None:
        """Add the gradient of this tensor to the ``.grad`` of every leaf that it depends on.

        Parameters
        ----------
        g : Tensor or array, optional
            The gradient of the final result with regard to this tensor; 1 by default.
        create_graph, retain_graph : bool, optional
            As of :func:`~tinygrad_rnn.backward`.
        """
        backward(self, g, create_graph=create_graph, retain_graph=retain_graph)

    # Python's and NumPy's protocols

    def __repr__(self) -> str:
        text = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=20, edgeitems=2)
        about = [] if self.dtype == np.float64 else [str(self.dtype)]
        about += [] if self.device == "cpu" else [f"device={self.device!r}"]
        if self.node is not None:
            about += ["requires_grad=True" if type(self.node) is Leaf else f"from={self.node.op.name}"]
        return f"tensor({', '.join([text, *about])})"

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def __int__(self) -> int:
        return int(self._data)

    def __index__(self) -> int:
        return operator.index(self._data)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else str(self)

    __hash__ = object.__hash__

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("a tensor cannot be written into: the tape may depend on its values. "
                        "x = x.at[index].set(value), or .add(value), makes a new one")  # fmt: skip

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.node is not None:
            raise TypeError("a tensor that requires a gradient does not become an array silently, as the gradient "
                            "would be lost: say x.data (or x.detach()) if that is meant")  # fmt: skip
        if self.device != "cpu":
            raise TypeError("a tensor on a GPU does not become a NumPy array silently: use x.numpy() or x.to('cpu')")
        return np.array(self.data, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        if keywords.get("out") is not None:
            raise TypeError(f"np.{ufunc.__name__}: out= would write into an array; use the result instead")
        operation = Tensor.ufuncs.get(ufunc) if method == "__call__" else None
        if operation is None:
            raise _no_rule(f"np.{ufunc.__name__}" + (f".{method}" if method != "__call__" else ""))
        return operation(*inputs, **keywords)

    def __array_function__(self, function: Callable, types: Any, inputs: tuple, keywords: dict) -> Any:
        operation = Tensor.functions.get(function)
        if operation is None:
            raise _no_rule(f"{function.__module__.replace('numpy', 'np')}.{function.__name__}")
        return operation(*inputs, **keywords)

    def __dlpack__(self, **keywords: Any) -> Any:
        if self.node is not None:
            raise BufferError("a tensor that requires a gradient is not handed over silently: use x.detach()")
        return self._data.copy().__dlpack__(**keywords)  # who gets it may write into it

    def __dlpack_device__(self) -> tuple:
        return self._data.__dlpack_device__()

    def __reduce__(self) -> tuple:  # for copy, deepcopy (which keeps .grad, too) and pickle
        if self.node is not None and type(self.node) is not Leaf:
            raise RuntimeError("only tensors that were not computed can be copied or pickled: detach() it first; to "
                               "plot its values, use x.data")  # fmt: skip
        return tensor, (self._data, self.requires_grad)

    def __deepcopy__(self, memo: dict) -> Tensor:
        make, parts = self.__reduce__()
        new = make(*parts)
        if self.grad is not None:
            new.grad = tensor(self.grad._data)
        return new

    if TYPE_CHECKING:  # what ops/methods.py puts here

        def _operation(self, *args: Any, **keywords: Any) -> Tensor: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _operation
        __matmul__ = __rmatmul__ = __pow__ = __rpow__ = __neg__ = __pos__ = __abs__ = __getitem__ = _operation
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _operation

        def __getattr__(self, name: str) -> Any: ...


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None, device: str | None = None) -> Tensor:
    """Make a tensor: a copy of numbers in an array, a list, a scalar, or a tensor that requires no gradient.

    Parameters
    ----------
    data : array, Tensor, nested lists or number
        The numbers. An array stays on its device.
    requires_grad : bool, optional
        Whether a gradient is wanted with regard to it (floating-point numbers only).
    dtype : dtype, optional
        By default the data's own; Python floats are float64, as in NumPy.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``; by default where the data is.

    Returns
    -------
    Tensor
        A constant, or a leaf of the tape.

    Raises
    ------
    TypeError
        The data are no numbers, or not floating-point ones where a gradient is wanted; or they are a tensor whose
        gradient a copy would lose.
    ValueError
        The shape of the data is not regular, or there is no such name of a device.

    Examples
    --------
    >>> tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    tensor([[1., 2.],
            [3., 4.]], requires_grad=True)
    """
    if isinstance(data, Tensor):
        if data.node is not None:
            raise TypeError("data: this tensor requires a gradient, which a copy would lose: say x.detach() if that is "
                            "meant")  # fmt: skip
        data = data._data
    array = new_array(data, dtype)
    array = array if device is None else move(array, device)
    return Tensor(array, _leaf(array) if requires_grad else None)


def _no_rule(name: str) -> TypeError:
    return TypeError(f"{name} has no rule for tensors: use x.data (no gradient), or add it with @tg.primitive")


def _leaf(array: Any, way: str = "pass dtype=float") -> Leaf:
    if array.dtype.kind == "c":
        raise TypeError(f"requires_grad: expected real numbers, got {array.dtype}: take two tensors, the real and the "
                        "imaginary part")  # fmt: skip
    if not has_gradient(array.dtype):
        raise TypeError(f"requires_grad: expected floating-point numbers, got {array.dtype}; {way}")
    return Leaf(array.shape, array.dtype)


def bare(x: Any) -> Any:
    """The array of a tensor; anything else as it is."""
    return x._data if isinstance(x, Tensor) else x


def from_dlpack(array: Any) -> Tensor:
    """A constant that shares the memory of another library's array (PyTorch, JAX, CuPy, ...), by DLPack: no copy.

    What is written into the other array is seen here, and a gradient that depends on it would be wrong: hand over what
    you no longer change, or use :func:`~tinygrad_rnn.tensor`, which copies.

    Parameters
    ----------
    array : object with ``__dlpack__``
        The other library's array, on the CPU or on a GPU.

    Returns
    -------
    Tensor
        Without a gradient.

    Examples
    --------
    >>> from_dlpack(np.ones(2))
    tensor([1., 1.])
    """
    return Tensor(shared_array(array))


from .tape import Leaf, backward  # noqa: E402  below the class, which tape.py builds on
