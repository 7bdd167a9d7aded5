"""The decorator that makes a class of the specification: frozen, keyword-only, checked by pydantic.

A person writes these values, so an error is one line with the field's name, what was expected and what was got, raised
as a `SpecError`; pydantic's own report never reaches the terminal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from etude.errors import SpecError, nearest

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def value(field: str) -> Callable[[type[T]], type[T]]:
    """Make a frozen, keyword-only, validated dataclass whose errors speak of ``field`` (``"study"``, ``"study.recipe"``)."""

    def decorate(cls: type[T]) -> type[T]:
        made: Any = dataclass(
            frozen=True, kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True)
        )(cls)
        checked = made.__init__

        @functools.wraps(checked)
        def __init__(self: Any, **values: Any) -> None:  # noqa: N807 - it replaces the class's own
            known = [f.name for f in fields(made)]
            for name in values:
                if name not in known:
                    raise SpecError(f"{field}: no field is named {name!r}{nearest(name, known)}")
            try:
                checked(self, **values)
            except ValidationError as error:
                raise SpecError(_one_line(field, error)) from None

        made.__init__ = __init__
        return made  # type: ignore[no-any-return]

    return decorate


def _one_line(field: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = field + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    if first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{where} is missing"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{where}: expected {message}, got {_short(first['input'])}"


def _short(got: object) -> str:
    text = repr(got)
    return text if len(text) <= 60 else text[:57] + "…"


def number(field: str, got: object, *, whole: bool = False) -> float:
    """Return ``got`` as a positive finite number, or raise a `SpecError` that names ``field``."""
    kind = "a positive whole number" if whole else "a positive, finite number"
    try:
        if isinstance(got, bool) or not isinstance(got, int | float | str):
            raise ValueError
        result = float(got)
    except (ValueError, OverflowError):
        raise SpecError(f"{field}: expected {kind}, got {_short(got)}") from None
    if not 0 < result < float("inf") or (whole and result != int(result)):
        raise SpecError(f"{field}: expected {kind}, got {_short(got)}")
    return result
