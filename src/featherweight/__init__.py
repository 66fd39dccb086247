"""featherweight: the best image classifier under a parameter limit.

    import featherweight as fw

    run = fw.train("wrn16_4", "digits", seed=1)
    fw.load(run).predict(["a.png", "b.png"]).labels

What stands in `__all__` is imported when it is first used, so that importing the package takes no time; docs/python.md
describes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featherweight.api import (
        Comparison,
        compare,
        ensemble,
        find,
        init,
        list_runs,
        load,
        predict,
        resume,
        soup,
        submit,
        train,
        weigh,
        write_report,
    )
    from featherweight.errors import OverBudget, UserError

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "OverBudget",
    "UserError",
    "compare",
    "ensemble",
    "find",
    "init",
    "list_runs",
    "load",
    "predict",
    "resume",
    "soup",
    "submit",
    "train",
    "weigh",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'featherweight' has no attribute '{name}'")
    if name in ("OverBudget", "UserError"):
        from featherweight import errors

        return getattr(errors, name)
    from featherweight import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
