"""A filter's settings under ``with``: the parameters of its constructor, checked by pydantic.

A class in an annotation (a dataclass, a TypedDict, a pydantic model) is a section with its own keys, which
are checked alike. A `Path` is relative to rules.yaml, and a `timedelta` is written as ``5s``.
"""

import dataclasses
import functools
import inspect
import keyword
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path, PosixPath
from typing import Annotated, Any, Literal, NotRequired, Required, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from gatepost.config.fields import at_base
from gatepost.config.problems import shown
from gatepost.pipeline.faults import FilterError
from gatepost.pipeline.provided import KINDS
from gatepost.units import Duration

__all__ = ["make_filter", "parameters", "settings_model"]

_STRICT = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
_open_sections: ContextVar[tuple[type[Any], ...]] = ContextVar("open_sections", default=())
"""The classes whose sections are being made: one that contains itself is left to pydantic."""


def parameters(filter_class: type[Any]) -> Iterator[tuple[str, inspect.Parameter, Any]]:
    """The key, the parameter and its annotation, for each setting of a filter."""
    hints = typing.get_type_hints(filter_class.__init__, include_extras=True)
    for parameter in inspect.signature(filter_class).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints.get(parameter.name, parameter.annotation)
        if isinstance(annotation, dataclasses.InitVar):
            annotation = annotation.type
        if annotation is inspect.Parameter.empty or isinstance(annotation, str):
            annotation = Any
        if annotation in KINDS:
            continue
        yield _key(parameter.name, annotation), parameter, annotation


def _key(parameter: str, annotation: Any) -> str:
    """The key of a parameter: its alias in the annotation, or its name, ``in`` for ``in_``."""
    for metadata in getattr(annotation, "__metadata__", ()):
        if isinstance(metadata, FieldInfo) and metadata.alias:
            return metadata.alias
    bare = parameter.removesuffix("_")
    return bare if keyword.iskeyword(bare) else parameter


@functools.lru_cache(maxsize=100)  # many rules may use the same filter class
def settings_model(filter_class: type[Any]) -> tuple[type[BaseModel], dict[str, str]]:
    """A model of a constructor's parameters, and the parameter's name for each of its fields.

    Validation is pydantic's strict JSON mode: text is not accepted for a number, nor a number for text; a
    list is accepted for a tuple or a set, and text for a path or an enumeration's value.
    """
    settings = [
        (parameter.name, key, annotation, parameter.default is inspect.Parameter.empty)
        for key, parameter, annotation in parameters(filter_class)
    ]
    return _model(filter_class.__name__, settings)


def _model(name: str, settings: list[tuple[str, str, Any, bool]]) -> tuple[type[BaseModel], dict[str, str]]:
    """A model of settings: of each its name, key and annotation, and whether it is required."""
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for number, (parameter, key, annotation, required) in enumerate(settings):
        # A parameter's own name may be one that pydantic needs.
        taken = parameter.startswith(("_", "model_")) or hasattr(BaseModel, parameter)
        field = f"setting_{number}" if taken else parameter
        names[field] = parameter
        fields[field] = (
            _as_written(annotation),
            Field(alias=key) if required else Field(default=None, alias=key),
        )
    return create_model(name, __config__=_STRICT, **fields), names


def _as_written(annotation: Any) -> Any:
    """An annotation for the values as rules.yaml has them."""
    if annotation in (Path, PosixPath, os.PathLike) or typing.get_origin(annotation) is os.PathLike:
        return Annotated[annotation, AfterValidator(at_base)]
    if annotation is timedelta:
        return Duration
    if isinstance(annotation, type):
        return _section(annotation)
    if meant := getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None):
        return _as_written(meant)  # of NewType, of a type alias
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return Annotated[_as_written(arguments[0]), *arguments[1:]]
    if not arguments or origin is Literal:
        return annotation
    written = tuple(map(_as_written, arguments))
    if origin in (Union, types.UnionType):
        return Union[written]  # noqa: UP007 - of a tuple
    return annotation if written == arguments else origin[written]  # a generic class


def _section(section: type[Any]) -> Any:
    """The annotation for a class whose keys are settings; for any other the class itself."""
    make = _section_maker(section)
    if make is None or section in _open_sections.get():
        return section
    token = _open_sections.set((*_open_sections.get(), section))
    try:
        return make(section)
    finally:
        _open_sections.reset(token)


def _section_maker(section: type[Any]) -> Callable[[type[Any]], Any] | None:
    if typing.is_typeddict(section):
        return _typed_dict
    if issubclass(section, BaseModel):
        return _pydantic_model
    if dataclasses.is_dataclass(section) and not hasattr(section, "__pydantic_fields__"):
        return _dataclass
    return None


def _dataclass(section: type[Any]) -> Any:
    model, names = settings_model(section)  # type: ignore[arg-type]  # a class is hashable

    def made(given: BaseModel, info: ValidationInfo) -> Any:
        return section(**_arguments(section, names, given, info.context["base"] if info.context else None))

    return Annotated[model, AfterValidator(made)]


def _typed_dict(section: type[Any]) -> Any:
    hints = typing.get_type_hints(section, include_extras=True)
    keys = [_typed_key(key, hint, required=key in section.__required_keys__) for key, hint in hints.items()]
    model, names = _model(section.__name__, keys)

    def made(given: BaseModel) -> dict[str, Any]:
        return {
            name: getattr(given, field) for field, name in names.items() if field in given.model_fields_set
        }

    return Annotated[model, AfterValidator(made)]


def _typed_key(key: str, hint: Any, *, required: bool) -> tuple[str, str, Any, bool]:
    """A key of a TypedDict for `_model`, without the qualifiers that only a TypedDict may have."""
    while (origin := typing.get_origin(hint)) in (Required, NotRequired):
        required, hint = origin is Required, typing.get_args(hint)[0]
    return key, key, hint, required


def _pydantic_model(section: type[BaseModel]) -> Any:
    """The model itself, but an unknown key is an error unless the model says otherwise."""
    changed: dict[str, Any] = {
        name: (written, field)
        for name, field in section.model_fields.items()
        if (written := _as_written(field.annotation)) != field.annotation
    }
    unknown = section.model_config.get("extra", "forbid")
    model = create_model(section.__name__, __base__=section, __cls_kwargs__={"extra": unknown}, **changed)

    def made(given: BaseModel, info: ValidationInfo) -> BaseModel:
        for name in set(section.model_fields) - given.model_fields_set:
            if info.context and isinstance(given.__dict__[name], Path):
                given.__dict__[name] = info.context["base"] / given.__dict__[name]
        object.__setattr__(given, "__class__", section)  # so that it is equal to one that the author made
        return given

    return Annotated[model, AfterValidator(made)]


def _arguments(
    made: type[Any], names: Mapping[str, str], given: BaseModel, base: Path | None
) -> dict[str, Any]:
    """The arguments of a constructor: those that were given, and default paths, which are relative too."""
    arguments = {names[field]: getattr(given, field) for field in given.model_fields_set}
    if base is not None:
        for name, parameter in inspect.signature(made).parameters.items():
            if name not in arguments and isinstance(parameter.default, Path):
                arguments[name] = base / parameter.default
    return arguments


def make_filter(
    filter_class: type[Any],
    settings: Mapping[str, Any],
    name: str = "",
    *,
    base: Path | None = None,
    provided: Mapping[type[Any], object] | None = None,
) -> object:
    """An instance of a filter with these settings, by their keys under ``with``.

    Args:
        filter_class: the class.
        settings: values as YAML has them.
        name: what a message calls the filter; default: the name of its class.
        base: the folder to which paths are relative; None leaves them as they are.
        provided: the arguments that come from their annotations.

    Raises pydantic's ValidationError, a ValueError, for wrong settings, and what the constructor raises.
    """
    try:
        model, names = settings_model(filter_class)  # type: ignore[arg-type]  # a class is hashable
    except (TypeError, ValueError, NameError, AttributeError, PydanticUserError) as error:
        what = f"the constructor of {shown(name or filter_class.__name__)}: {type(error).__name__}: {error}"
        raise FilterError(what) from error
    context = None if base is None else {"base": base}
    given = model.model_validate_json(to_json(settings), context=context)
    arguments = _arguments(filter_class, names, given, base) | _provided(filter_class, provided or {})
    made: object = filter_class(**arguments)
    return made


def _provided(filter_class: type[Any], provided: Mapping[type[Any], object]) -> dict[str, object]:
    """The arguments of a constructor that come from their annotations."""
    hints = typing.get_type_hints(filter_class.__init__, include_extras=True)
    return {name: provided[hint] for name, hint in hints.items() if hint in KINDS}
