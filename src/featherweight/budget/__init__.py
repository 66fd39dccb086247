"""The parameter limit: what counts, the refusal, lighter variants, and the members of a family that fill it."""

from featherweight.budget.count import WeighIn, count_parameters, weigh, weigh_all, weigh_ensemble, weigh_model
from featherweight.budget.walk import groups

__all__ = ["WeighIn", "count_parameters", "groups", "weigh", "weigh_all", "weigh_ensemble", "weigh_model"]
