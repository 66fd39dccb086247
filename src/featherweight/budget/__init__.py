"""The parameter limit: what counts, the check, smaller variants, and members of a family that fill the limit."""

from featherweight.budget.any_model import weigh_anything, weigh_module
from featherweight.budget.count import (
    BudgetCheck,
    count_parameters,
    network_of,
    weigh,
    weigh_all,
    weigh_ensemble,
    weigh_model,
)
from featherweight.budget.folders import files_in
from featherweight.budget.tally import ModelSize
from featherweight.budget.what_counts import groups

__all__ = [
    "BudgetCheck",
    "ModelSize",
    "count_parameters",
    "files_in",
    "groups",
    "network_of",
    "weigh",
    "weigh_all",
    "weigh_anything",
    "weigh_ensemble",
    "weigh_model",
    "weigh_module",
]
