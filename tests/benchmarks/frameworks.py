"""The frameworks that are measured, each as a class with the same few methods, so that all run the same programs.

A framework has ``sigmoid``, ``tanh``, ``split`` (in four, along the last axis), ``unstack`` and ``stack`` (along the
first); its tensors have ``+ - * @`` and ``.sum()``. A program is a function of leaves that returns a scalar:
``forward`` runs it, ``backward`` returns the gradients with regard to the leaves.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np


class Framework:
    """What all have in common: the LSTM, from operations alone, and what is asked of it."""

    module = ""

    def __init__(self) -> None:
        self.library = importlib.import_module(self.module)

    def leaves(self, arrays: list[np.ndarray]) -> list:
        """The arrays as tensors that want a gradient."""
        raise NotImplementedError

    def forward(self, program: Callable, leaves: list) -> Any:
        return program(*leaves)

    def backward(self, run: Any, leaves: list) -> list:
        raise NotImplementedError

    def second(self, program: Callable, leaves: list) -> list:
        """The gradients of the sum of the squares of the program's gradients."""
        raise NotImplementedError("has no gradients of gradients")

    def array(self, tensor: Any) -> np.ndarray:
        return np.asarray(tensor)

    def constant(self, array: np.ndarray) -> Any:
        return array

    def lstm(self, x: Any, w_input: Any, w_hidden: Any, bias: Any) -> Any:
        """The sum of the outputs of an LSTM with x (time, batch, features) as its inputs, in a plain loop."""
        sigmoid, tanh, split = self.sigmoid, self.tanh, self.split
        h = c = self.constant(np.zeros((x.shape[1], w_hidden.shape[0]), np.float32))
        hs = []
        for x_t in self.unstack(x):
            i, f, g, o = split(x_t @ w_input + h @ w_hidden + bias)
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            h = sigmoid(o) * tanh(c)
            hs.append(h)
        return self.stack(hs).sum()

    def lstm_gradients(self, leaves: list) -> list:
        return self.backward(self.forward(self.lstm, leaves), leaves)


class Ours(Framework):
    module = "tinygrad_rnn"

    def __init__(self) -> None:
        super().__init__()
        tg = self.library
        self.sigmoid, self.tanh, self.unstack, self.stack = tg.sigmoid, tg.tanh, tg.unstack, tg.stack
        self.split = lambda z: tg.split(z, 4, -1)
        self.constant = tg.tensor

    def leaves(self, arrays: list[np.ndarray]) -> list:
        return [self.library.tensor(array, requires_grad=True) for array in arrays]

    def backward(self, run: Any, leaves: list) -> list:
        run.backward()
        gradients = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        return gradients

    def second(self, program: Callable, leaves: list) -> list:
        gradients = self.library.gradients(program(*leaves), leaves, create_graph=True)
        return self.library.gradients(sum((g * g).sum() for g in gradients), leaves)


class Scan(Ours):
    """The same, with ``tg.scan`` in the place of the loop, on the tape: what is compiled is another matter."""

    def lstm(self, x: Any, w_input: Any, w_hidden: Any, bias: Any) -> Any:
        sigmoid, tanh, split = self.sigmoid, self.tanh, self.split

        def step(x_t: Any, state: Any) -> Any:
            h, c = state
            i, f, g, o = split(x_t @ w_input + h @ w_hidden + bias)
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            h = sigmoid(o) * tanh(c)
            return h, (h, c)

        zeros = self.constant(np.zeros((x.shape[1], w_hidden.shape[0]), np.float32))
        return self.library.scan(step, x, (zeros, zeros), compiled=False)[0].sum()


class Torch(Framework):
    module = "torch"

    def __init__(self) -> None:
        super().__init__()
        torch = self.library
        self.sigmoid, self.tanh, self.unstack, self.stack = torch.sigmoid, torch.tanh, torch.unbind, torch.stack
        self.split = lambda z: z.chunk(4, -1)
        self.constant = torch.from_numpy

    def leaves(self, arrays: list[np.ndarray]) -> list:
        return [self.library.tensor(array, requires_grad=True) for array in arrays]

    def backward(self, run: Any, leaves: list) -> list:
        run.backward()
        gradients = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        return gradients

    def second(self, program: Callable, leaves: list) -> list:
        gradients = self.library.autograd.grad(program(*leaves), leaves, create_graph=True)
        return self.library.autograd.grad(sum((g * g).sum() for g in gradients), leaves)

    def array(self, tensor: Any) -> np.ndarray:
        return tensor.detach().numpy()


class Autograd(Framework):
    """HIPS/autograd. It differentiates functions, not tensors: its leaves are arrays, and a run is a function."""

    module = "autograd"

    def __init__(self) -> None:
        super().__init__()
        anp = importlib.import_module("autograd.numpy")
        core = importlib.import_module("autograd.core")
        self.make_vjp, self.ones = core.make_vjp, lambda value: core.vspace(value).ones()
        try:
            self.sigmoid = importlib.import_module("autograd.scipy.special").expit
        except ImportError:  # SciPy is not installed
            self.sigmoid = lambda x: 1 / (1 + anp.exp(-x))
        self.tanh, self.unstack, self.stack = anp.tanh, list, anp.stack
        self.split = lambda z: anp.split(z, 4, -1)

    def leaves(self, arrays: list[np.ndarray]) -> list:
        return list(arrays)

    def forward(self, program: Callable, leaves: list) -> Any:
        return self.make_vjp(lambda values: program(*values), tuple(leaves))

    def backward(self, run: Any, leaves: list) -> list:
        vjp, end = run
        return list(vjp(self.ones(end)))

    def second(self, program: Callable, leaves: list) -> list:
        def squares(*leaves: Any) -> Any:
            gradients = self.backward(self.forward(program, leaves), leaves)
            return sum((g * g).sum() for g in gradients)

        return self.backward(self.forward(squares, leaves), leaves)


class MyGrad(Framework):
    module = "mygrad"

    def __init__(self) -> None:
        super().__init__()
        mg = self.library
        self.sigmoid = importlib.import_module("mygrad.nnet.activations").sigmoid
        self.tanh, self.unstack, self.stack = mg.tanh, list, mg.stack

    def split(self, z: Any) -> list:
        n = z.shape[-1] // 4
        return [z[..., i * n : (i + 1) * n] for i in range(4)]

    def leaves(self, arrays: list[np.ndarray]) -> list:
        return [self.library.tensor(array) for array in arrays]

    def backward(self, run: Any, leaves: list) -> list:
        run.backward()
        gradients = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.null_grad()
        return gradients


def logistic(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


class ByHand(Framework):
    """No framework: the LSTM and its back-propagation through time in NumPy. The others are checked with it."""

    module = "numpy"

    def leaves(self, arrays: list[np.ndarray]) -> list:
        return list(arrays)

    def lstm_gradients(self, leaves: list) -> list:
        x, w_input, w_hidden, bias = leaves
        h = c = np.zeros((x.shape[1], len(w_hidden)), x.dtype)
        steps = []
        for x_t in x:
            z = x_t @ w_input + h @ w_hidden + bias
            i, f, g, o = np.split(z, 4, -1)
            i, f, g, o = logistic(i), logistic(f), np.tanh(g), logistic(o)
            tanh_c = np.tanh(c_next := f * c + i * g)
            steps.append((x_t, h, c, i, f, g, o, tanh_c))
            h, c = o * tanh_c, c_next
        dx, dw_input, dw_hidden, dbias = map(np.zeros_like, leaves)
        dh = dc = np.zeros_like(c)
        for t in reversed(range(len(steps))):
            x_t, h, c, i, f, g, o, tanh_c = steps[t]
            dh = dh + 1  # the loss is the sum of all outputs
            dc = dc + dh * o * (1 - tanh_c * tanh_c)
            dz = np.concatenate(
                [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)], axis=-1
            )
            dw_input += x_t.T @ dz
            dw_hidden += h.T @ dz
            dbias += dz.sum(axis=0)
            dx[t] = dz @ w_input.T
            dh, dc = dz @ w_hidden.T, dc * f
        return [dx, dw_input, dw_hidden, dbias]


FRAMEWORKS = {
    "tinygrad_rnn": Ours,
    "tinygrad_rnn, tg.scan": Scan,
    "NumPy": ByHand,
    "PyTorch": Torch,
    "autograd": Autograd,
    "MyGrad": MyGrad,
}
