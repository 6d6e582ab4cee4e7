"""Every context that this site carries, and all that they declare."""

from importlib import import_module

from commands.kernel import COMMANDS, JOBS, POLICIES
from domain.kernel import EVENTS
from projections.kernel import MODELS, QUERIES

CONTEXTS = (
    "commands.appeals",
    "commands.catalogue",
    "commands.people",
    "commands.people.administration",
    "commands.tenancy",
    "projections.appeals",
    "projections.audit",
    "projections.catalogue",
    "projections.moderation",
    "projections.people",
    "projections.security",
    "projections.tenancy",
)
for context in CONTEXTS:
    import_module(context)

__all__ = ["COMMANDS", "EVENTS", "JOBS", "MODELS", "POLICIES", "QUERIES"]
