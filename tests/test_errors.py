"""Bad input: one table of what is called, what is raised, and the words that must be in it.

Every message names the operation or the argument, what was expected, and what came. And after an error nothing has
changed: no mode, no gradient, no entry is left on the tape.
"""

import copy
import gc
import re

import fakecupy
import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.tape import Node

AxisError, LinAlgError = np.exceptions.AxisError, np.linalg.LinAlgError


def walked(rule, create_graph=False, several=False):
    """Walk back through an operation with that rule."""
    x = tg.tensor(np.ones(3), requires_grad=True)

    def twice(x):
        return x * 2

    def of_several(*arrays):
        return sum(arrays)

    of_several.__name__ = "twice"
    y = tg.primitive(of_several).vjp(rule)(x, x) if several else tg.primitive(twice).vjp(rule)(x)
    tg.gradients(y.sum(), x, create_graph=create_graph)


def values():
    """What the calls of the table are about."""
    x = tg.tensor(np.arange(6.0).reshape(2, 3) + 0.5, requires_grad=True)
    v = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    f = tg.tensor(np.float32([1, 2, 3]), requires_grad=True)
    freed = (v * v).sum()
    tg.gradients(freed, v)
    with tg.no_grad():
        quiet = (v * v).sum()
    return {
        "tg": tg, "np": np, "copy": copy, "walked": walked,
        "x": x, "v": v, "f": f, "s": tg.tensor(2.0, requires_grad=True), "c": tg.tensor([1.0, 2.0]),
        "freed": freed, "quiet": quiet, "y": v * 2.0, "y32": f * 2, "loss": (v * v).sum(), "rows": tg.unstack(x),
    }  # fmt: skip


TABLE = [
    # Shapes that do not go together
    ("x + np.ones(4)", ValueError, r"add(a: float64 (2, 3), b: float64 (4,)): .*shapes"),
    ("x * c", ValueError, r"multiply(a: float64 (2, 3), b: float64 (2,))"),
    ("np.ones((4, 1, 2)) - x", ValueError, r"subtract(a: float64 (4, 1, 2), b: float64 (2, 3))"),
    ("x / [1.0, 2.0]", ValueError, r"divide(a: float64 (2, 3), b: [1.0, 2.0])"),
    ("tg.maximum(x, np.ones(4))", ValueError, r"maximum(a: float64 (2, 3), b: float64 (4,))"),
    ("tg.hypot(x, np.ones((3, 2)))", ValueError, r"hypot(a: float64 (2, 3), b: float64 (3, 2))"),
    ("tg.power(x, np.ones(2))", ValueError, r"power(a: float64 (2, 3), b: float64 (2,))"),
    ("tg.where(np.array([True, False]), x, 0.0)", ValueError,
     r"where(condition: bool (2,), a: float64 (2, 3), b: 0.0)"),
    ("tg.clip(x, np.ones(2), 3.0)", ValueError, r"clip(x: float64 (2, 3), min: float64 (2,), max: 3.0)"),
    ("x @ x", ValueError, r"matmul(a: float64 (2, 3), b: float64 (2, 3))"),
    ("x @ np.ones(4)", ValueError, r"matmul(a: float64 (2, 3), b: float64 (4,))"),
    ("np.ones(4) @ x", ValueError, r"matmul(a: float64 (4,), b: float64 (2, 3))"),
    ("s @ v", ValueError, r"matmul(a: float64 (), b: float64 (3,))"),
    ("x @ np.ones((5, 4, 2))", ValueError, r"matmul(a: float64 (2, 3), b: float64 (5, 4, 2))"),
    ("tg.dot(x, x)", ValueError, r"(matmul|dot)(a: float64 (2, 3), b: float64 (2, 3))"),
    ("tg.tensordot(x, x, 1)", ValueError,
     r"tensordot: axes (1,) of a, (2, 3), have the lengths [3], and axes (0,) of b"),
    ("tg.tensordot(x, x, axes=((0,), (0, 1)))", ValueError, r"tensordot: axes (0,) of a, (2, 3)"),
    ("tg.einsum('ij,jk->ik', x, x)", ValueError, r"einsum: subscripts 'ij,jk->ik': axes 'j' differ in length"),
    ("tg.einsum('ij,jk->ik', x)", ValueError, r"einsum: subscripts 'ij,jk->ik': they are for 2 operands, got 1"),
    ("tg.einsum('ij->ijk', x)", ValueError, r"einsum: subscripts 'ij->ijk': a letter of the result must occur"),
    ("tg.einsum('i->ii', v)", ValueError, r"einsum: subscripts 'i->ii': a letter of the result must occur in it once"),
    ("tg.einsum('ij', v)", ValueError,
     r"einsum: subscripts 'ij': 'ij' does not name the axes of operand 0, whose shape is (3,)"),
    ("tg.einsum('i?', v)", ValueError, r"einsum: subscripts 'i?': expected letters"),
    ("tg.solve(x, v)", LinAlgError, r"solve(a: float64 (2, 3), b: float64 (3,)): .*square"),
    ("tg.solve(np.zeros((2, 2)), c * s)", LinAlgError, r"solve(a: float64 (2, 2), b: float64 (2,)): Singular matrix"),
    ("tg.inv(x)", LinAlgError, r"inv(x: float64 (2, 3)): .*square"),
    ("tg.inv(s * np.zeros((2, 2)))", LinAlgError, r"inv(x: float64 (2, 2)): Singular matrix"),
    ("tg.cholesky(s * -np.eye(2))", LinAlgError, r"cholesky(x: float64 (2, 2)): .*not positive definite"),
    ("tg.slogdet(x)", LinAlgError, r"slogdet(x: float64 (2, 3)): .*square"),
    ("tg.stack([x, v])", ValueError, r"stack(arrays[0]: float64 (2, 3), arrays[1]: float64 (3,), axis: 0)"),
    ("tg.concatenate([x, v])", ValueError, r"concatenate(arrays[0]: float64 (2, 3), arrays[1]: float64 (3,), axis: 0)"),
    ("tg.concatenate([x, np.ones((3, 2))])", ValueError, r"concatenate(.*along dimension 1"),
    ("tg.stack([])", ValueError, r"stack: arrays: expected at least one"),
    ("tg.concatenate([])", ValueError, r"concatenate: arrays: expected at least one"),
    ("x.reshape(4)", ValueError,
     r"reshape(x: float64 (2, 3), shape: 4): cannot reshape array of size 6 into shape (4,)"),
    ("x.reshape(-1, -1)", ValueError, r"reshape(x: float64 (2, 3), shape: (-1, -1)): .*one unknown dimension"),
    ("tg.broadcast_to(x, (3, 3))", ValueError, r"broadcast_to(x: float64 (2, 3), shape: (3, 3))"),
    ("tg.broadcast_to(x, (3,))", ValueError, r"broadcast_to(x: float64 (2, 3), shape: (3,))"),
    ("tg.squeeze(x, 0)", ValueError, r"squeeze(x: float64 (2, 3), axis: 0): .*not equal to one"),
    ("tg.tril(s)", (TypeError, ValueError), r"tril"),
    ("tg.diagonal(v)", (ValueError, AxisError), r"(diagonal|moveaxis).*(3,)"),
    ("tg.unstack(s)", (TypeError, ValueError), r"unstack(x: float64 ()): .*0-d"),
    ("tg.pad(x, ((1, 2), (1, 2), (1, 2)))", ValueError,
     r"pad: pad_width: expected .* 2 axes, got ((1, 2), (1, 2), (1, 2))"),
    ("x.at[0].set(np.ones(4))", ValueError, r"at.set(x: float64 (2, 3), v: float64 (4,), index: 0)"),
    ("x.at[0].add(np.ones((2, 2)))", ValueError, r"at.add(x: float64 (2, 3), v: float64 (2, 2), index: 0)"),
    ("tg.repeat(v, [1, 2])", ValueError, r"(3,|3 )"),
    # Axes
    ("v.sum(axis=1)", AxisError, r"sum(x: float64 (3,), axis: 1): axis 1 is out of bounds"),
    ("v.sum(axis=-2)", AxisError, r"sum(x: float64 (3,), axis: -2)"),
    ("x.sum(axis=(0, 0))", ValueError, r"sum(x: float64 (2, 3), axis: (0, 0)): duplicate value in 'axis'"),
    ("x.sum(axis=0.5)", TypeError, r"sum(x: float64 (2, 3), axis: 0.5): .*integer"),
    ("x.mean(axis=2)", AxisError, r"mean(x: float64 (2, 3), axis: 2)"),
    ("x.max(axis=5)", AxisError, r"max(x: float64 (2, 3), axis: 5)"),
    ("x.prod(axis=3)", AxisError, r"prod(x: float64 (2, 3), axis: 3)"),
    ("x.var(axis=4)", AxisError, r"var(x: float64 (2, 3), axis: 4)"),
    ("x.std(axis=4)", AxisError, r"(std|var)\b.*axis 4 is out of bounds"),
    ("tg.norm(x, axis=3)", AxisError, r"norm.*axis 3 is out of bounds"),
    ("tg.norm(x, ord='what')", ValueError, r"norm: ord: .*expected None, 'fro'.* got 'what'"),
    ("tg.cumsum(x, axis=2)", AxisError, r"cumsum(x: float64 (2, 3), axis: 2)"),
    ("tg.cumprod(x, axis=-3)", AxisError, r"cumprod(x: float64 (2, 3), axis: -3)"),
    ("tg.logsumexp(x, axis=2)", AxisError, r"logsumexp(x: float64 (2, 3), axis: 2)"),
    ("tg.softmax(x, axis=2)", AxisError, r"softmax(x: float64 (2, 3), axis: 2)"),
    ("tg.log_softmax(x, axis=-3)", AxisError, r"log_softmax(x: float64 (2, 3), axis: -3)"),
    ("tg.argmax(x, axis=2)", AxisError, r"axis 2 is out of bounds for array of dimension 2"),
    ("tg.transpose(x, (0, 2))", AxisError, r"transpose(x: float64 (2, 3), axes: (0, 2))"),
    ("tg.transpose(x, (0, 0))", ValueError, r"transpose(x: float64 (2, 3), axes: (0, 0)): repeated axis"),
    ("tg.transpose(x, (0,))", ValueError, r"transpose(x: float64 (2, 3), axes: (0,)): axes don't match"),
    ("tg.swapaxes(x, 0, 2)", AxisError, r"swapaxes(x: float64 (2, 3), axis1: 0, axis2: 2): axis2"),
    ("tg.moveaxis(x, 0, 2)", AxisError, r"moveaxis(x: float64 (2, 3), source: 0, destination: 2): destination"),
    ("tg.moveaxis(x, (0, 1), (0,))", ValueError,
     r"moveaxis(x: float64 (2, 3), source: (0, 1), destination: (0,)): .*same number"),
    ("tg.expand_dims(x, 4)", AxisError, r"expand_dims(x: float64 (2, 3), axis: 4)"),
    ("tg.squeeze(x, 5)", AxisError, r"squeeze(x: float64 (2, 3), axis: 5)"),
    ("tg.concatenate([x, x], axis=2)", AxisError, r"concatenate(.*axis: 2): axis 2 is out of bounds"),
    ("tg.stack([v, v], axis=2)", AxisError, r"stack(.*axis: 2): axis 2 is out of bounds"),
    ("tg.split(x, 1, axis=2)", AxisError, r"split(x: float64 (2, 3), indices_or_sections: 1, axis: 2)"),
    ("tg.unstack(x, axis=2)", AxisError, r"unstack(x: float64 (2, 3), axis: 2)"),
    ("tg.flip(x, 3)", AxisError, r"flip(x: float64 (2, 3), axis: 3)"),
    ("tg.roll(x, 1, axis=2)", AxisError, r"roll(x: float64 (2, 3), shift: 1, axis: 2)"),
    ("tg.repeat(v, 1, axis=1)", AxisError, r"repeat.*axis 1 is out of bounds"),
    ("tg.take(x, [0], axis=2)", AxisError, r"take.*axis 2 is out of bounds"),
    # Indices, counts and choices
    ("x[2]", IndexError, r"getitem(x: float64 (2, 3), index: 2): index 2 is out of bounds for axis 0 with size 2"),
    ("x[-3]", IndexError, r"getitem(x: float64 (2, 3), index: -3): index -3 is out of bounds"),
    ("x[0, 3]", IndexError, r"getitem(x: float64 (2, 3), index: (0, 3)): index 3 is out of bounds for axis 1"),
    ("x[0, 0, 0]", IndexError, r"getitem(x: float64 (2, 3), index: (0, 0, 0)): too many indices"),
    ("x[1.0]", IndexError, r"getitem(x: float64 (2, 3), index: 1.0): only integers"),
    ("x['a']", IndexError, r"getitem(x: float64 (2, 3), index: 'a'): only integers"),
    ("x[[0, 5]]", IndexError, r"getitem(x: float64 (2, 3), index: [0, 5]): index 5 is out of bounds"),
    ("x[np.array([0.5])]", IndexError, r"getitem(x: float64 (2, 3), index: float64 (1,)): .*integer"),
    ("x[np.array([True, False, True])]", IndexError,
     r"getitem(x: float64 (2, 3), index: bool (3,)): boolean index did not match"),
    ("x[[0, 1], [0, 1, 2]]", IndexError, r"getitem(x: float64 (2, 3), index: ([0, 1], [0, 1, 2])): shape mismatch"),
    ("x[..., ...]", IndexError, r"getitem(x: float64 (2, 3), index: (Ellipsis, Ellipsis)): .*single ellipsis"),
    ("x[v]", TypeError, r"getitem: float64 (3,) requires a gradient, and only x can have one; use x.detach()"),
    ("tg.take(x, [0.5])", TypeError, r"take: indices: expected integers, got [0.5]"),
    ("tg.take(x, [3], axis=0)", IndexError, r"index 3 is out of bounds for axis 0 with size 2"),
    ("tg.take_along_axis(x, [0], axis=0)", ValueError, r"take_along_axis: indices: expected .*2"),
    ("tg.take_along_axis(x, np.array([[0.5]]), axis=0)", TypeError, r"take_along_axis: indices: expected integers"),
    ("tg.take_along_axis(x, np.array([[5]]), axis=0)", IndexError, r"index 5 is out of bounds"),
    ("x.at[5].set(1.0)", IndexError, r"at.set(x: float64 (2, 3), v: 1.0, index: 5): index 5 is out of bounds"),
    ("x.at[[0, 0]].set(np.ones((2, 3)))", ValueError, r"at.set(.*index: names a place twice"),
    ("tg.tensor([1, 2]).at[0].set(1.5)", TypeError, r"at.set(x: int64 (2,), v: 1.5, index: 0): v: float64"),
    ("f.at[0].set(1j)", TypeError, r"at.set(.*complex128"),
    ("tg.one_hot([0, 5], 3)", ValueError, r"one_hot: indices: expected 0 to 2 (num_classes is 3), got 0 to 5"),
    ("tg.one_hot([-1], 3)", ValueError, r"one_hot: indices: expected 0 to 2 .*got -1"),
    ("tg.one_hot([0.5], 3)", TypeError, r"one_hot: indices: expected integers, got [0.5]"),
    ("tg.split(x, 2, axis=1)", ValueError,
     r"split(x: float64 (2, 3), indices_or_sections: 2, axis: 1): 2 parts do not make"),
    ("tg.split(x, 0)", ValueError, r"split(.*0 parts do not make an equal division"),
    ("tg.split(x, [2, 1])", ValueError, r"split(.*places to cut must ascend"),
    ("tg.tile(x, -1)", ValueError, r"-1"),
    ("tg.repeat(x, -1)", ValueError, r"-1"),
    ("tg.pad(x, -1)", ValueError, r"pad.*negative|pad.*-1"),
    ("tg.pad(x, 1, mode='bogus')", ValueError, r"pad: mode: expected one of 'constant', .*got 'bogus'"),
    ("tg.pad(x, 1, mode='edge', constant_values=3)", ValueError, r"pad: constant_values: only mode='constant' has any"),
    ("tg.max(np.zeros((0, 2)) * s, axis=0)", ValueError, r"max(x: float64 (0, 2), axis: 0): zero-size array"),
    # Arguments that are wrong altogether
    ("v + 'text'", TypeError, r"add(a: float64 (3,), b: 'text')"),
    ("v * None", TypeError, r"multiply(a: float64 (3,), b: None)"),
    ("v * 1j", TypeError, r"complex128 has no gradient here, and one is wanted: compute with real floating-point"),
    ("v.astype(complex)", TypeError, r"complex128 has no gradient here"),
    ("v.astype('bogus')", TypeError, r"astype(x: float64 (3,), dtype: 'bogus')"),
    ("tg.tanh('text')", TypeError, r"tanh(x: 'text')"),
    ("tg.add(v)", TypeError, r"add() missing 1 required positional argument: 'b'"),
    ("tg.add(v, v, v)", TypeError, r"add() takes 2 positional arguments but 3 were given"),
    ("tg.sum(x, bogus=1)", TypeError, r"sum(x: float64 (2, 3), bogus: 1): .*unexpected keyword argument 'bogus'"),
    ("tg.clip(v, 1, 0, 5)", TypeError, r"clip(.*takes from 1 to 3 positional arguments but 4 were given"),
    ("x.reshape('a')", TypeError, r"reshape(x: float64 (2, 3), shape: 'a')"),
    ("tg.clip(v, np.ma.masked_array([0.0], [True]))", TypeError,
     r"clip: expected arrays, tensors or numbers, got MaskedArray: make a tensor of it"),
    ("tg.clip(np.ones(3), v, None)", TypeError, r"clip: float64 (3,) requires a gradient, and only x can have one"),
    ("tg.leaky_relu(np.ones(2), s)", TypeError, r"leaky_relu: float64 () requires a gradient"),
    ("tg.where(v, 1.0, 2.0)", TypeError, r"where: condition requires a gradient, and there is no rule for it"),
    # Making tensors
    ("tg.tensor('text')", TypeError, r"data: expected numbers in a regular shape, got str"),
    ("tg.tensor(None)", TypeError, r"data: expected numbers in a regular shape, got NoneType"),
    ("tg.tensor([[1.0], [1.0, 2.0]])", (TypeError, ValueError), r"shape"),
    ("tg.tensor([1, 2], requires_grad=True)", TypeError,
     r"requires_grad: expected floating-point numbers, got int64; pass dtype=float"),
    ("tg.tensor([1j], requires_grad=True)", TypeError,
     r"requires_grad: expected real numbers, got complex128: take two tensors, the real and the imaginary part"),
    ("setattr(tg.tensor([1]), 'requires_grad', True)", TypeError,
     r"requires_grad: expected floating-point numbers, got int64; convert it first, astype(float)"),
    ("tg.nn.Parameter(np.arange(3))", TypeError,
     r"requires_grad: expected floating-point numbers, got int64; convert it first, astype(float)"),
    ("tg.tensor([True], requires_grad=True)", TypeError, r"requires_grad: expected floating-point numbers, got bool"),
    ("tg.tensor(v)", TypeError, r"data: this tensor requires a gradient, which a copy would lose"),
    ("tg.tensor([1.0], device='tpu')", ValueError, r"device: expected 'cpu', 'cuda' or 'cuda:1', got 'tpu'"),
    ("tg.tensor([1.0], device=0)", ValueError, r"device: expected 'cpu', 'cuda' or 'cuda:1', got 0"),
    ("x.to('gpu')", ValueError, r"device: expected 'cpu', 'cuda' or 'cuda:1', got 'gpu'"),
    ("x.to(np.float64)", ValueError,
     r"got <class 'numpy.float64'>: that is a dtype, and numbers are converted by astype(dtype)"),
    ("tg.nn.Linear(1, 1, rng=0).to('float64')", ValueError, r"got 'float64': that is a dtype, .* by astype(dtype)"),
    ("x.to('cuda:x')", ValueError, r"device: expected .*got 'cuda:x'"),
    ("setattr(v, 'data', np.ones(2))", ValueError, r"data: expected float64 (3,) on cpu, got float64 (2,) on cpu"),
    ("setattr(y, 'data', np.ones(3))", RuntimeError, r"data: this tensor was computed; only a leaf"),
    ("setattr(v, 'grad', 3)", ValueError, r"grad: expected None or a float64 tensor of shape (3,), got 3"),
    ("setattr(c, 'grad', None)", RuntimeError, r"grad: only a tensor made with requires_grad=True"),
    ("setattr(y, 'requires_grad', False)", RuntimeError, r"requires_grad: this tensor was computed; use x.detach()"),
    ("y.grad", RuntimeError, r"grad: this tensor was computed (by multiply), .*tg.gradients(loss, [this])"),
    ("v.__setitem__(0, 1.0)", TypeError, r"a tensor cannot be written into: .*x.at[index].set(value)"),
    ("np.asarray(v)", TypeError, r"does not become an array silently, .*say x.data"),
    ("copy.copy(y)", RuntimeError, r"can be copied or pickled: detach() it first; to plot its values, use x.data"),
    ("np.sort(v)", TypeError,
     r"np.sort has no rule for tensors: use x.data (no gradient), or add it with @tg.primitive"),
    ("np.add(v, v, out=np.ones(3))", TypeError, r"np.add: out= would write into an array"),
    ("np.add.reduce(v)", TypeError, r"np.add.reduce has no rule for tensors"),
    ("np.from_dlpack(v)", BufferError, r"is not handed over silently: use x.detach()"),
    ("bool(v)", ValueError, r"ambiguous"),
    ("iter(s)", TypeError, r"a tensor without dimensions cannot be iterated over"),
    # Walking
    ("y.backward()", ValueError,
     r"output: its shape is (3,), and only a single number has a gradient: sum it, or pass g"),
    ("tg.gradients(y, v)", ValueError, r"output: its shape is (3,)"),
    ("c.backward()", ValueError,
     r"output: expected a tensor that was computed from one with requires_grad=True, got float64 (2,)"),
    ("quiet.backward()", ValueError, r"output: expected a tensor that was computed from one with requires_grad=True"),
    ("tg.no_grad(lambda: quiet.backward())()", ValueError, r"(and nothing is recorded here: this is a no_grad block)"),
    ("tg.backward(None)", ValueError, r"output: expected a tensor .*got None"),
    ("tg.gradients(np.ones(3), v)", ValueError, r"output: expected a tensor .*got float64 (3,)"),
    ("y.backward(np.ones(2))", ValueError, r"g: expected float64 (3,), like the output, got float64 (2,)"),
    ("y.backward(np.ones((1, 3)))", ValueError, r"g: expected float64 (3,), like the output, got float64 (1, 3)"),
    ("y.backward(1.0)", ValueError, r"g: expected float64 (3,), like the output, got 1.0"),
    ("y.backward([1.0, 1.0, 1.0])", ValueError, r"g: expected float64 (3,), like the output, got [1.0, 1.0, 1.0]"),
    ("y.backward(np.ones(3, np.float32))", ValueError, r"g: expected float64 (3,), like the output, got float32 (3,)"),
    ("y32.backward(np.ones(3))", ValueError, r"g: expected float32 (3,), like the output, got float64 (3,)"),
    ("y.backward(np.ones(3, int))", ValueError, r"g: expected float64 (3,), like the output, got int64 (3,)"),
    ("freed.backward()", RuntimeError, r"freed up to sum: to walk it twice, pass retain_graph=True .*detach() it"),
    ("tg.gradients(freed, v)", RuntimeError, r"freed up to sum"),
    ("(freed + loss).backward()", RuntimeError, r"freed up to sum"),
    ("tg.gradients(loss, c)", ValueError, r"inputs[0]: expected a tensor that requires a gradient, got float64 (2,)"),
    ("tg.gradients(loss, [v, c])", ValueError,
     r"inputs[1]: expected a tensor that requires a gradient, got float64 (2,)"),
    ("tg.gradients(loss, np.ones(3))", (ValueError, TypeError), r"inputs.*: expected"),
    ("tg.gradients(loss, [v, 'v'])", ValueError, r"inputs[1]: expected a tensor that requires a gradient, got 'v'"),
    # Rules that do not return arrays
    ("walked(lambda g: None)", TypeError, r"twice: its rule for x returned None, and has to return an array (3,)"),
    ("walked(lambda g: 2.0)", TypeError, r"twice: its rule for x returned 2.0, and has to return an array (3,)"),
    ("walked(lambda g: (g,))", TypeError, r"its rule for x returned a tuple of 1: float64 (3,), and has to return"),
    ("walked(lambda g: [1.0, 2.0])", TypeError, r"its rule for x returned a list of 2: 1.0, 2.0, and has to return"),
    ("walked(lambda g: None, create_graph=True)", TypeError, r"twice: its rule for x returned None, and has to"),
    ("walked(lambda g: (g, None), several=True)", TypeError,
     r"twice: its rule for arrays[1] returned None, and has to return an array (3,)"),
    ("walked(lambda g: g, several=True)", TypeError,
     r"a joint rule has to return a list of gradients, one for each of 2 inputs, got float64 (3,)"),
    ("tg.tape(c)", ValueError, r"output: expected a tensor that was recorded, got float64 (2,)"),
    ("tg.tape(3)", ValueError, r"output: expected a tensor that was recorded, got 3"),
]  # fmt: skip

ON_DEVICES = [
    ("v * g", tg.DeviceError,
     r"multiply: a is on 'cpu' and b on 'cuda:0', and nothing is copied .*.to('cuda:0') or .to('cpu')"),
    ("g * v", tg.DeviceError, r"multiply: a is on 'cuda:0' and b on 'cpu'"),
    ("v + ga", tg.DeviceError, r"add: a is on 'cpu' and b on 'cuda:0'"),
    ("np.ones(3) * g", tg.DeviceError, r"multiply: a is on 'cpu' and b on 'cuda:0'"),
    ("g @ np.eye(3)", tg.DeviceError, r"matmul: a is on 'cuda:0' and b on 'cpu'"),
    ("tg.where(g > 0, v, g)", tg.DeviceError, r"where: condition is on 'cuda:0' and a on 'cpu'"),
    ("tg.stack([v, g])", tg.DeviceError, r"stack: arrays[0] is on 'cpu' and arrays[1] on 'cuda:0'"),
    ("tg.concatenate([g, np.ones(2)])", tg.DeviceError,
     r"concatenate: arrays[0] is on 'cuda:0' and arrays[1] on 'cpu'"),
    ("g.at[:2].set(np.ones(2))", tg.DeviceError, r"at.set: x is on 'cuda:0' and v on 'cpu'"),
    ("tg.einsum('i,i->', v, g)", tg.DeviceError, r"on 'cpu' and .* on 'cuda:0'"),
    ("tg.maximum(ga, v)", tg.DeviceError, r"maximum: a is on 'cuda:0' and b on 'cpu'"),
    ("g[np.array([5])]", IndexError,
     r"getitem(x: float64 (3,) on cuda:0, index: int64 (1,)): index 5 is out of bounds"),
    ("yg.backward(np.ones(3))", (ValueError, tg.DeviceError),
     r"g: expected float64 (3,) on cuda:0, like the output, got float64 (3,)"),
    ("setattr(g, 'data', np.ones(3))", ValueError, r"data: expected float64 (3,) on cuda:0, got float64 (3,) on cpu"),
    ("np.asarray(g.detach())", TypeError, r"a tensor on a GPU does not become a NumPy array silently: use x.numpy()"),
    ("g.to('cuda:7')", (RuntimeError, tg.DeviceError), r"device 'cuda:7' cannot be used"),
]  # fmt: skip


def words(pattern):
    """A regular expression in which only .* and \\b and (a|b) are special: brackets stand for themselves."""
    kept = re.findall(r"\.\*|\\b|\(\w+\|\w+\)|\||[^.(|\\]+|[.(\\]", pattern)
    return "".join(k if k in (".*", r"\b", "|") or re.fullmatch(r"\(\w+\|\w+\)", k) else re.escape(k) for k in kept)


def check(call, scope, kind, pattern):
    """The call raises just that, and leaves nothing behind."""
    watched = [x for x in scope.values() if isinstance(x, tg.Tensor)]
    before = [(x.node, x._data, x.requires_grad) for x in watched]
    recording = tg.is_recording()
    gc.collect()
    gc.freeze()  # what there is now is not listed by get_objects
    try:
        error = None
        try:
            eval(call, scope)
        except Exception as caught:
            error = caught.with_traceback(None)
            error.__cause__ = error.__context__ = None
        new = [x for x in gc.get_objects() if isinstance(x, Node)]
    finally:
        gc.unfreeze()
    assert error is not None, "nothing was raised"
    assert isinstance(error, kind), f"{type(error).__name__}: {error}"
    assert re.search(words(pattern), str(error), re.DOTALL), str(error)
    assert not new, "an entry is left on the tape"
    assert tg.is_recording() == recording
    for x, (node, data, requires_grad) in zip(watched, before, strict=True):
        assert x.node is node
        assert x._data is data
        assert x.requires_grad == requires_grad
        if requires_grad and type(node).__name__ == "Leaf":
            assert x.grad is None
    scope["loss"].backward()  # and what was recorded before can be walked
    assert scope["v"].grad.tolist() == [2.0, 4.0, 6.0]


@pytest.mark.parametrize(("call", "kind", "pattern"), TABLE, ids=[row[0] for row in TABLE])
def test_bad_input(call, kind, pattern):
    check(call, values(), kind, pattern)


@pytest.mark.parametrize(("call", "kind", "pattern"), ON_DEVICES, ids=[row[0] for row in ON_DEVICES])
def test_bad_input_on_devices(call, kind, pattern):
    with fakecupy.installed() as cupy:
        ga = cupy.asarray([1.0, 2.0, 3.0])
        g = tg.tensor(ga, requires_grad=True)
        check(call, values() | {"g": g, "ga": ga, "yg": g * 2.0}, kind, pattern)


def test_cupy_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    for call in ("x.to('cuda')", "tg.tensor([1.0], device='cuda:1')"):
        check(call, values(), ImportError, r"device 'cuda")
        with pytest.raises(ImportError, match=r"needs CuPy: pip install 'tinygrad_rnn\[cuda1"):
            eval(call, values())


def test_the_table_is_long_and_names_what_came():
    assert len(TABLE) + len(ON_DEVICES) >= 150
    assert len({call for call, _, _ in TABLE}) == len(TABLE)


def test_long_values_are_shortened():
    with pytest.raises(TypeError) as error:
        tg.tensor([1.0]) + ("x" * 1000)
    assert len(str(error.value)) < 400


def test_kinds_of_errors_are_kept_and_the_cause_is_there():
    with pytest.raises(ValueError, match="matmul") as error:
        np.ones((2, 3)) @ tg.tensor(np.ones((2, 3)))
    assert isinstance(error.value.__cause__, ValueError)
    assert isinstance(tg.DeviceError(""), TypeError)
    assert issubclass(tg.ShapeError, ValueError) and issubclass(tg.StateError, ValueError)
