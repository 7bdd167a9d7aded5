"""Gradient norm and update-to-weight ratio of a step, over all trainable parameters together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from etude.errors import SpecError


class UpdateMeter:
    """Measures one optimizer step: call `before` once the gradients are there, step, then call `after`."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.moved = [torch.empty_like(parameter) for parameter in self.parameters]
        self.grad_norm: Tensor

    @torch.no_grad()
    def before(self) -> None:
        """Note the gradients' norm and where the weights are."""
        gradients = [_dense(parameter.grad) for parameter in self.parameters if parameter.grad is not None]
        if not gradients:
            raise SpecError("task.loss: its graph reaches none of the parameters that are trained")
        self.grad_norm = _norm(gradients)
        torch._foreach_copy_(self.moved, self.parameters)

    @torch.no_grad()
    def after(self) -> tuple[float, float]:
        """Return (‖g‖, ‖Δθ‖ / ‖θ‖), with θ after the step."""
        torch._foreach_sub_(self.moved, self.parameters)
        grad_norm, update, weight = torch.stack((self.grad_norm, _norm(self.moved), _norm(self.parameters))).tolist()
        return grad_norm, update / weight if weight else float("nan")


def _dense(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _norm(tensors: list[Tensor]) -> Tensor:
    norm: Tensor = torch.stack(torch._foreach_norm(tensors)).norm()
    return norm
