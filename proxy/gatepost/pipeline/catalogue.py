"""The installed filters, for ``gatepost plugin list``."""

import dataclasses
import importlib.metadata
import inspect
from typing import Any

from gatepost.pipeline.faults import FilterError
from gatepost.pipeline.filter_settings import parameters
from gatepost.pipeline.finder import installed_class, installed_filters
from gatepost.values import value

__all__ = ["FilterDescription", "FilterSetting", "describe_filters"]


@value
class FilterSetting:
    """One key that a filter takes under ``with``."""

    name: str
    type: str
    """As in the filter's code, for example ``list[str]``."""
    required: bool
    default: Any = None
    """None where it is required."""


@value
class FilterDescription:
    """An installed filter."""

    name: str
    where: str
    """``module:Class``."""
    distribution: str
    """The installed package and its version; empty where unknown."""
    summary: str = ""
    """The first line of the class's docstring."""
    settings: tuple[FilterSetting, ...] = ()
    problem: str = ""
    """Why it cannot be used; empty where it can."""


def describe_filters() -> tuple[FilterDescription, ...]:
    """All installed filters, imported; one that cannot be is there with its problem."""
    return tuple(_describe(name, found) for name, found in sorted(installed_filters().items()))


def _describe(name: str, found: list[importlib.metadata.EntryPoint]) -> FilterDescription:
    distribution = found[0].dist
    description = FilterDescription(
        name=name,
        where=found[0].value,
        distribution=f"{distribution.name} {distribution.version}" if distribution else "",
    )
    try:
        filter_class = installed_class(name, found)
        return dataclasses.replace(
            description,
            summary=(inspect.getdoc(filter_class) or "").partition("\n")[0],
            settings=tuple(_setting(filter_class, *of) for of in parameters(filter_class)),
        )
    except FilterError as error:
        return dataclasses.replace(description, problem=error.what)
    except (TypeError, ValueError, NameError) as error:
        return dataclasses.replace(description, problem=f"its constructor: {type(error).__name__}: {error}")


def _setting(
    filter_class: type[Any], key: str, parameter: inspect.Parameter, annotation: Any
) -> FilterSetting:
    required = parameter.default is inspect.Parameter.empty
    default = None if required else parameter.default
    if dataclasses.is_dataclass(filter_class):
        for field in dataclasses.fields(filter_class):
            if field.name == parameter.name and field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
    bare = annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation  # of Annotated
    type_name = inspect.formatannotation(bare).replace("typing.", "")
    return FilterSetting(name=key, type=type_name, required=required, default=default)
