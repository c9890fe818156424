"""Modes: whether calls are recorded, and who watches them, here and now.

A mode belongs to a thread, or to an asynchronous task, and lasts for a block: ``with no_grad():``. The tape asks for it
at every call; normally there is none, and calls are recorded.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recording import Primitive
    from .tape import Node


class Observer:
    """Somebody who watches every call of a primitive, and every rule: anomaly mode, or a trace."""

    of_calls = True  # False: only rules matter to it, so that what computes otherwise where it is watched need not

    def call(self, compute: Callable, op: Primitive, inputs: tuple, keywords: dict) -> Any:
        """Finish a call; ``compute(op, inputs, keywords)`` does what would be done if nobody watched."""
        return compute(op, inputs, keywords)

    def before_rule(self, node: Node, g: Any) -> None:
        """A gradient, g, has arrived at an entry, and its rules are about to run."""

    def after_rule(self, node: Node, g: Any, gradients: Sequence) -> None:
        """The rules of an entry have turned g, the gradient of its output, into the gradients of its inputs."""


class Mode:
    """How calls of primitives are finished, in this thread or task, while it lasts."""

    def __init__(
        self, before: Mode | None, owner: switched, records: bool | None = None, observer: Observer | None = None
    ):
        self.before, self.owner, self.changes = before, owner, (records, observer)
        self.settle()

    def settle(self) -> None:
        """What this mode does not say, the one before it says."""
        (records, observer), before = self.changes, self.before
        self.records = records if records is not None else before.records if before else True
        self.observer = observer if observer is not None else before.observer if before else None


_mode: ContextVar[Mode | None] = ContextVar("mode", default=None)  # None: record, and nobody watches


class switched:
    """A mode as a context manager, for a block, and as a decorator, for a function or a generator."""

    def __init__(self, **changes: Any):
        self.changes = changes

    def __enter__(self) -> Observer | None:
        _mode.set(Mode(_mode.get(), self, **self.changes))
        return self.changes.get("observer")

    def __exit__(self, *error: Any) -> None:
        self.leave()

    def leave(self) -> Mode | None:
        """Take our mode out. It need not be the last one: a generator may have been left inside of its block."""
        above, mode = [], _mode.get()
        while mode is not None and mode.owner is not self:
            above.append(mode)
            mode = mode.before
        if mode is not None and not above:
            _mode.set(mode.before)
        elif mode is not None:
            above[-1].before = mode.before
            for inner in reversed(above):
                inner.settle()
        return mode

    def __call__(self, function: Callable) -> Callable:
        if inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__name__}: an asynchronous generator cannot be decorated; use `with` inside it")
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def wrapper(*args: Any, **keywords: Any) -> Iterator:
                """The mode holds while the generator runs, and not while its user does."""
                generator, resume, value = function(*args, **keywords), "send", None
                while True:
                    try:
                        with self:
                            item = getattr(generator, resume)(value)
                    except StopIteration as end:
                        return end.value
                    try:
                        resume, value = "send", (yield item)
                    except GeneratorExit:
                        with self:
                            generator.close()
                        raise
                    except BaseException as error:
                        resume, value = "throw", error

        elif inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **keywords: Any) -> Any:
                with self:
                    return await function(*args, **keywords)

        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **keywords: Any) -> Any:
                with self:
                    return function(*args, **keywords)

        return wrapper


def no_grad(function: Callable | None = None) -> Any:
    """Compute without recording, in this thread or task: a context manager, and a decorator (of generators, too).

    Parameters
    ----------
    function : callable, optional
        What is decorated.

    Returns
    -------
    context manager or callable
        The function, decorated, if there is one; else what goes into ``with``, or decorates one.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     (x * x).requires_grad
    False
    """
    return switched(records=False) if function is None else switched(records=False)(function)


def enable_grad(function: Callable | None = None) -> Any:
    """Record again, inside a :func:`~tinygrad_rnn.no_grad` block: a context manager, and a decorator.

    Parameters
    ----------
    function : callable, optional
        What is decorated.

    Returns
    -------
    context manager or callable
        The function, decorated, if there is one; else what goes into ``with``, or decorates one.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad(), tg.enable_grad():
    ...     (x * x).requires_grad
    True
    """
    return switched(records=True) if function is None else switched(records=True)(function)


def is_observed() -> bool:
    """Whether somebody watches the calls, here and now."""
    mode = _mode.get()
    return mode is not None and mode.observer is not None and mode.observer.of_calls


def is_recording() -> bool:
    """Whether operations are recorded here and now.

    Returns
    -------
    bool
        False inside a :func:`~tinygrad_rnn.no_grad` block, in this thread or task.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> with tg.no_grad():
    ...     tg.is_recording()
    False
    """
    mode = _mode.get()
    return mode is None or mode.records
