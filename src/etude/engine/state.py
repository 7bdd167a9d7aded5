"""All that a session needs to go on, as bytes: packed by `torch.save`, unpacked with ``weights_only=True``."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from etude.errors import SpecError, StoreError

State = dict[str, Any]


def pack(state: State, *, verify: bool) -> bytes:
    """Return the state as bytes; ``verify`` reads them back, so that what could not go on is refused at once.

    Raises `SpecError` for state that is no tensor, number, text or container of these.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    if verify:
        buffer.seek(0)
        try:
            torch.load(buffer, weights_only=True)
        except pickle.UnpicklingError as error:
            reason = str(error).split("\n")[0]
            raise SpecError(
                "task.model: its state or the optimizer's cannot be stored and read back safely; keep tensors, numbers "
                f"and text in state_dict(): {reason}"
            ) from None
    return buffer.getvalue()


def unpack(packed: bytes, device: torch.device) -> State:
    """Return the state, what lay on the CPU there and the rest on ``device``. Raises `StoreError` for no checkpoint."""

    restored: Callable[[Any, str], Any] = torch.serialization.default_restore_location

    def placed(storage: Any, location: str) -> Any:
        return None if location == "cpu" else restored(storage, str(device))

    try:
        state = torch.load(io.BytesIO(packed), map_location=placed, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise StoreError(f"a checkpoint cannot be read ({reason}); it is truncated or corrupt") from None
    if not isinstance(state, dict) or "step" not in state:
        raise StoreError("a checkpoint cannot be read: it holds something else")
    if "loss_sum" in state:  # as etude wrote it before there was more than a loss to sum up
        state |= {"sums": {"loss": state["loss_sum"]}, "count": state["loss_count"], "averaging": None, "best": None}
    return state


def model_state(model: nn.Module) -> State:
    """Return the state dict, and beside it the buffers that `state_dict` leaves out (``persistent=False``)."""
    stored = model.state_dict()
    volatile = {name: buffer for name, buffer in model.named_buffers() if name not in stored}
    return {"stored": stored, "volatile": volatile}


def load_model_state(model: nn.Module, state: State) -> None:
    """Put back what `model_state` returned."""
    model.load_state_dict(state["stored"])
    buffers = dict(model.named_buffers())
    if unknown := sorted(state["volatile"].keys() - buffers.keys()):
        raise SpecError(
            f"task.model: the buffer {unknown[0]!r} is registered while it trains, so a fresh model cannot take it back; "
            "register it in __init__"
        )
    for name, value in state["volatile"].items():
        buffers[name].copy_(value)


def weights_digest(model: nn.Module) -> str:
    """Return a digest of the names, shapes and values of all parameters and buffers."""
    hashed = hashlib.blake2b(digest_size=16)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        if tensor.ndim:
            # Flat first: where axes of length 1 leave the layout open, as in a 1×1 convolution's weights in channels_last,
            # a contiguous tensor's last stride need not be 1, and bytes cannot be viewed.
            hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            hashed.update(repr(tensor.item()).encode())
    return hashed.hexdigest()
