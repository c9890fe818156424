"""Weights from other frameworks and for them, none of which is needed for it: dicts of NumPy arrays in, and out.

The modules here have PyTorch's names and layouts: what its ``state_dict`` holds, ``load_state_dict`` takes. Those of
Keras and ONNX are others; here is how they correspond, for H units, I inputs and G gates:

==========  ======================  ==============================  =============================
..          PyTorch, and here       Keras                           ONNX, for D directions
==========  ======================  ==============================  =============================
of inputs   ``weight_ih`` (G·H, I)  ``kernel`` (I, G·H)             ``W`` (D, G·H, I)
of states   ``weight_hh`` (G·H, H)  ``recurrent_kernel`` (H, G·H)   ``R`` (D, G·H, H)
biases      ``bias_ih`` (G·H,),     ``bias`` (G·H,), or (2, G·H)    ``B`` (D, 2·G·H): the first
            ``bias_hh`` (G·H,)      of a GRU with ``reset_after``   half is that of the inputs
LSTM's      i, f, g, o              i, f, c, o                      i, o, f, c
GRU's       r, z, n                 z, r, h                         z, r, h
==========  ======================  ==============================  =============================

Where Keras has one bias, ours has two, which are added: it becomes ``bias_ih``, and ``bias_hh`` is 0. What the weights
do not tell is for the user to look at: the activation functions, and whether a GRU's reset gate acts after the product
(``reset_after`` here and in Keras, ``linear_before_reset`` in ONNX) or before it. Of the layers around them, only a
Dense of Keras has another layout: its ``kernel`` is the weight of a Linear, transposed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import move

# The order in which another framework has our gates: RNN one alone, LSTM i, f, g, o, GRU r, z, n
ONNX_GATES = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}
KERAS_GATES = {"SimpleRNN": [0], "LSTM": [0, 1, 2, 3], "GRU": [1, 0, 2]}
OURS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def from_torch(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A PyTorch ``state_dict`` as NumPy arrays, which are copies: from any device, also of parameters in training.

    Names and layouts are ours already.

    Raises:
        ValueError: NumPy has no such dtype, as of bfloat16; names all of them.
    """
    arrays, wrong = {}, []
    for name, x in state.items():
        try:
            for method in ("detach", "cpu", "numpy"):
                x = getattr(x, method)() if hasattr(x, method) else x
            arrays[name] = np.array(x)
        except TypeError as error:
            wrong.append(f"{name}: {error}")
    return _unless(wrong, "state: some tensors have no NumPy dtype (.float() gives them one):", arrays)


def from_keras(
    kind: str, weights: Mapping[str, Any] | Sequence[Any], layer: int | None = None, reverse: bool = False
) -> dict[str, np.ndarray]:
    """The weights of a Keras layer, under our names, in our layout.

    Args:
        kind: the layer's class in Keras: ``"SimpleRNN"``, ``"LSTM"`` or ``"GRU"``.
        weights: what its ``get_weights()`` returns, in that order; or the same arrays by Keras' names.
        layer: the number of the layer to be, in a recurrent network of ours (``weight_ih_l0``); None: it is a cell
            (``weight_ih``).
        reverse: whether it is the backward one of a bidirectional layer (``weight_ih_l0_reverse``).

    Raises:
        ValueError: names or shapes that do not fit together; lists all of them.

    >>> ours = from_keras("SimpleRNN", {"kernel": np.ones((15, 16)), "recurrent_kernel": np.ones((16, 16))})
    >>> {name: array.shape for name, array in ours.items()}
    {'weight_ih': (16, 15), 'weight_hh': (16, 16)}
    """
    _known(kind, KERAS_GATES)
    if not isinstance(weights, Mapping):
        names = ["kernel", "recurrent_kernel", "bias"]
        weights = dict(zip([*names, *(f"[{i}]" for i in range(3, len(weights)))], weights))
    arrays = {name: _array(x) for name, x in weights.items()}
    order = KERAS_GATES[kind]
    inputs, units = _axis(arrays, "kernel", 0), _axis(arrays, "recurrent_kernel", 0)
    rows = len(order) * units
    two = kind == "GRU" and "bias" in arrays and arrays["bias"].ndim == 2
    shapes = {"kernel": (inputs, rows), "recurrent_kernel": (units, rows), "bias": (2, rows) if two else (rows,)}
    _fit(arrays, shapes, ("kernel", "recurrent_kernel"))
    back = list(np.argsort(order))
    state = {"weight_ih": _gates(arrays["kernel"].T, back), "weight_hh": _gates(arrays["recurrent_kernel"].T, back)}
    if "bias" in arrays:
        bias = arrays["bias"] if two else np.stack([arrays["bias"], np.zeros_like(arrays["bias"])])
        state |= {"bias_ih": _gates(bias[0], back), "bias_hh": _gates(bias[1], back)}
    return {name + _suffix(layer, reverse): array for name, array in state.items()}


def to_keras(
    kind: str, state: Mapping[str, Any], layer: int | None = None, reverse: bool = False, reset_after: bool = True
) -> dict[str, np.ndarray]:
    """The weights of a layer or a cell of ours as those of a Keras layer, by its names, in the order of its
    ``set_weights(list(...))``.

    Args:
        kind, layer, reverse: as of :func:`from_keras`.
        state: the ``state_dict``; it may have other layers, too.
        reset_after: of a GRU; Keras has two biases only with it. One bias is the sum of ours.
    """
    _known(kind, KERAS_GATES)
    arrays = {name: _array(x) for name, x in state.items()}
    order = KERAS_GATES[kind]
    own = _of_layer(arrays, len(order), layer, reverse)
    weights = {
        "kernel": _gates(own["weight_ih"], order).T.copy(),
        "recurrent_kernel": _gates(own["weight_hh"], order).T.copy(),
    }
    if "bias_ih" in own:
        biases = [_gates(own["bias_ih"], order), _gates(own["bias_hh"], order)]
        weights["bias"] = np.stack(biases) if kind == "GRU" and reset_after else biases[0] + biases[1]
    return weights


def from_onnx(kind: str, weights: Mapping[str, Any], layer: int | None = 0) -> dict[str, np.ndarray]:
    """The initialisers of an ONNX node, under our names, in our layout.

    Args:
        kind: the operator: ``"RNN"``, ``"LSTM"`` or ``"GRU"``.
        weights: ``"W"``, ``"R"`` and, if there is one, ``"B"``. (A peephole ``"P"`` is refused: our cells of the same
            names have none.)
        layer: the number of the layer to be (``weight_ih_l0``, and ``weight_ih_l0_reverse`` of two directions); None:
            it is a cell.

    Raises:
        ValueError: names or shapes that do not fit together; lists all of them.
    """
    _known(kind, ONNX_GATES)
    arrays = {name: _array(x) for name, x in weights.items()}
    order = ONNX_GATES[kind]
    directions, units, inputs = _axis(arrays, "W", 0), _axis(arrays, "R", 2), _axis(arrays, "W", 2)
    rows = len(order) * units
    shapes = {"W": (directions, rows, inputs), "R": (directions, rows, units), "B": (directions, 2 * rows)}
    _fit(arrays, shapes, ("W", "R"))
    if directions not in ((1,) if layer is None else (1, 2)):
        raise ValueError(f"W: expected {'1 direction, of a cell' if layer is None else '1 or 2 directions'}, got "
                         f"{directions}")  # fmt: skip
    back, state = list(np.argsort(order)), {}
    for i in range(directions):
        own = {"weight_ih": arrays["W"][i], "weight_hh": arrays["R"][i]}
        if "B" in arrays:
            own |= {"bias_ih": arrays["B"][i, :rows], "bias_hh": arrays["B"][i, rows:]}
        state |= {name + _suffix(layer, i == 1): _gates(array, back) for name, array in own.items()}
    return state


def to_onnx(kind: str, state: Mapping[str, Any], layer: int | None = 0) -> dict[str, np.ndarray]:
    """The weights of a layer or a cell of ours as ``"W"``, ``"R"`` and ``"B"`` of an ONNX node.

    The node has two directions, if the layer has. Its attributes are not weights: hidden_size, direction and, of a GRU,
    linear_before_reset, which is our reset_after.

    Args:
        kind, layer: as of :func:`from_onnx`.
        state: the ``state_dict``; it may have other layers, too.
    """
    _known(kind, ONNX_GATES)
    arrays = {name: _array(x) for name, x in state.items()}
    order = ONNX_GATES[kind]
    both = [False, True] if layer is not None and "weight_ih" + _suffix(layer, True) in arrays else [False]
    own = [_of_layer(arrays, len(order), layer, reverse) for reverse in both]
    own = [{name: _gates(array, order) for name, array in weights.items()} for weights in own]
    weights = {"W": np.stack([w["weight_ih"] for w in own]), "R": np.stack([w["weight_hh"] for w in own])}
    if "bias_ih" in own[0]:
        weights["B"] = np.stack([np.concatenate([w["bias_ih"], w["bias_hh"]]) for w in own])
    return weights


# What they share ------------------------------------------------------------------------------------------------------


def _array(x: Any) -> np.ndarray:
    return np.asarray(move(getattr(x, "_data", x), "cpu"))


def _gates(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """A copy, with the blocks of rows, one a gate, in another order."""
    return np.concatenate([np.split(array, len(order))[i] for i in order])


def _suffix(layer: int | None, reverse: bool) -> str:
    if layer is None and reverse:
        raise ValueError("reverse: a cell has no direction: expected a number for layer")
    return "" if layer is None else f"_l{layer}{'_reverse' if reverse else ''}"


def _of_layer(arrays: dict[str, np.ndarray], gates: int, layer: int | None, reverse: bool) -> dict[str, np.ndarray]:
    """The weights of one layer and direction out of ours, without the suffix, checked."""
    names = [name + _suffix(layer, reverse) for name in OURS]
    other = r"(weight|bias)_(ih|hh)_l\d+(_reverse)?" if layer is not None else "(?!)"
    own = {name: x for name, x in arrays.items() if name in names or not re.fullmatch(other, name)}
    inputs, units = _axis(own, names[0], 1), _axis(own, names[1], 1)
    rows = gates * units
    needed = names if own.keys() & names[2:] else names[:2]
    _fit(own, dict(zip(names, [(rows, inputs), (rows, units), (rows,), (rows,)])), needed)
    return {short: own[name] for short, name in zip(OURS, names) if name in own}


def _axis(arrays: Mapping[str, np.ndarray], name: str, axis: int) -> int:
    """How long an axis is; 0, which fits nothing, if there is none."""
    shape = arrays[name].shape if name in arrays else ()
    return shape[axis] if axis < len(shape) else 0


def _fit(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple], needed: Sequence[str]) -> None:
    """Raise a ValueError that lists all names that are missing or not known, and all shapes that are wrong."""
    wrong = [f"{name}: missing" for name in needed if name not in arrays]
    for name, array in arrays.items():
        if name not in shapes:
            wrong.append(f"{name}: it has no counterpart; known are {', '.join(shapes)}")
        elif shapes[name] != array.shape:
            wrong.append(f"{name}: expected {shapes[name]}, got {array.shape}")
    _unless(wrong, "weights: do not fit:", None)


def _unless(wrong: list[str], what: str, result: Any) -> Any:
    if wrong:
        raise ValueError("\n  ".join([what, *wrong]))
    return result


def _known(kind: str, kinds: Any) -> None:
    if kind not in kinds:
        raise ValueError(f"kind: expected one of {', '.join(map(repr, kinds))}, got {kind!r}")
