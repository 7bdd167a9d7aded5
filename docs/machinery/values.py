"""Shows the classes of the specification, decorated with ``value``, as what they are: keyword-only dataclasses.

Griffe reads sources without running them, so it does not see what the decorator does, and pydantic's ``Annotated[…]`` would
swamp the signature. An extension for mkdocstrings.
"""

from __future__ import annotations

from typing import Any

from griffe import (
    Attribute,
    Class,
    Expr,
    ExprCall,
    ExprKeyword,
    ExprSubscript,
    ExprTuple,
    Extension,
    Function,
    Parameter,
    ParameterKind,
    Parameters,
)


class Values(Extension):
    """Gives each of these classes an ``__init__`` of its fields, with their plain types and defaults."""

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        """Look through the package once it is read."""
        for module in pkg["spec"].modules.values():
            for cls in module.classes.values():
                if any(str(decorator.value).startswith("value(") for decorator in cls.decorators):
                    _give_signature(cls)


def _give_signature(cls: Class) -> None:
    fields = [member for member in cls.members.values() if isinstance(member, Attribute) and member.annotation]
    fields = [field for field in fields if "property" not in field.labels]
    parameters = [
        Parameter(
            field.name,
            annotation=_plain(field.annotation),
            kind=ParameterKind.keyword_only,
            default=_default(field.value),
        )
        for field in fields
    ]
    receiver = Parameter("self", kind=ParameterKind.positional_or_keyword)
    cls.set_member("__init__", Function("__init__", parameters=Parameters(receiver, *parameters), returns="None"))


def _plain(annotation: str | Expr | None) -> str | Expr | None:
    """Return what ``Annotated`` annotates."""
    if isinstance(annotation, ExprSubscript) and annotation.canonical_name == "Annotated":
        inner = annotation.slice
        return inner.elements[0] if isinstance(inner, ExprTuple) else inner
    return annotation


def _default(value: str | Expr | None) -> str | Expr | None:
    """Return what a default factory makes: ``{}`` for ``Field(default_factory=dict)``."""
    if isinstance(value, ExprCall) and str(value.function) == "Field":
        factories = [one.value for one in value.arguments if isinstance(one, ExprKeyword)]
        made = str(factories[0])
        return {"dict": "{}", "list": "[]"}.get(made, f"{made}()")
    if isinstance(value, ExprCall) and str(value.function) == "dataclasses.field":
        defaults = [one.value for one in value.arguments if isinstance(one, ExprKeyword) and one.name == "default"]
        return str(defaults[0]) if defaults else None
    return value
