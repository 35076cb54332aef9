"""A log-likelihood that is computed outside PyTensor, with its own gradient, as one node of a PyMC model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

Evaluate = Callable[..., tuple[float, *tuple[NDArray[np.float64], ...]]]
"""Takes the values of the inputs, returns the log-likelihood and its gradient in each of them."""


class LikelihoodOp(Op):  # type: ignore[misc]
    """Log-likelihood with a gradient of its own: nothing is compiled when a model is built.

    Parameters
    ----------
    evaluate : callable
    """

    __props__ = ()

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate = evaluate

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def make_node(self, *inputs: Any) -> Apply:
        """Return the value, then its gradient in each input."""
        variables = [pt.as_tensor_variable(given) for given in inputs]
        return Apply(self, variables, [pt.dscalar(), *(variable.type() for variable in variables)])

    def perform(self, node: Apply, inputs: list[NDArray[np.float64]], output_storage: list[list[Any]]) -> None:
        """Evaluate by compiled kernels."""
        value, *gradients = self.evaluate(*inputs)
        output_storage[0][0] = np.asarray(value)
        for storage, gradient in zip(output_storage[1:], gradients, strict=True):
            storage[0] = gradient

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        """Chain rule; only the value is ever differentiated."""
        return [cotangents[0] * gradient for gradient in outputs[1:]]
