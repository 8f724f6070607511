"""Canonical codes of PyTorch tensors: by value; device, strides and storage do not count. Modules are known by their state."""

from __future__ import annotations

import sys

from stillrun.canonical import Coder, UnknownTypeError
from stillrun.canonical_buffers import code_of_numbers
from stillrun.canonical_objects import code_by_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["code_of_torch"]

_FLOATS = {"torch.float16": "e", "torch.float32": "f", "torch.float64": "d"}
_COMPLEX = {"torch.complex64": "f", "torch.complex128": "d"}


def code_of_torch(coder: Coder, value: Any) -> bytes:
    """The code of a value from PyTorch. Raises UnknownTypeError."""
    torch: Any = sys.modules["torch"]
    if not isinstance(value, torch.Tensor):
        return code_by_state(coder, value)
    if value.is_quantized or value.device.type == "meta":
        raise UnknownTypeError(str(value.dtype))
    parts = (coder.code(type(value)), coder.code(bool(value.requires_grad)), coder.code(str(value.layout)))
    plain = value.detach()
    values: tuple[bytes, ...]
    if value.layout == torch.sparse_coo:
        plain = plain.coalesce()
        values = (_tensor(coder, torch, plain.indices()), _tensor(coder, torch, plain.values()))
    elif value.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        rows = value.layout in (torch.sparse_csr, torch.sparse_bsr)
        places = (plain.crow_indices(), plain.col_indices()) if rows else (plain.ccol_indices(), plain.row_indices())
        values = tuple(_tensor(coder, torch, each) for each in (*places, plain.values()))
    else:
        values = (_tensor(coder, torch, plain),)
    attributes = coder.mapping(b"d", getattr(value, "__dict__", None) or {})
    return coder.tagged("torch.Tensor", *parts, coder.code(tuple(value.shape)), attributes, *values)


def _tensor(coder: Coder, torch: Any, tensor: Any) -> bytes:
    """The code of a strided tensor's numbers."""
    plain = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    kind, count = str(plain.dtype), plain.numel()
    if kind in _COMPLEX:
        plain, form = torch.view_as_real(plain).contiguous(), _COMPLEX[kind]
    else:
        form = _FLOATS.get(kind, "B")
        if form == "B" and plain.is_floating_point():  # bfloat16 and the eight bit ones have one NaN as torch makes it
            wrong = torch.isnan(plain)
            plain = torch.where(wrong, torch.full_like(plain, float("nan")), plain) if wrong.any() else plain
    data = plain.reshape(-1).view(torch.uint8)
    buffers = [memoryview(data.numpy())] if count else []
    return coder.tagged(
        "tensor", coder.code(kind), coder.code(tuple(plain.shape)), code_of_numbers(coder, form, count, buffers)
    )
