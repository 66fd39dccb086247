"""HTML pages from the templates beside the modules that write them."""

from __future__ import annotations

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(package: str, name: str, **filters: Callable[..., str]) -> Template:
    """Return the template `name` of a package, such as report, which may use these filters.

    Values are escaped, and an unknown name is an error.
    """
    environment = Environment(
        loader=PackageLoader("featherweight", package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)
