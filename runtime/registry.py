"""Every context that this site carries, and all that they declare."""

from importlib import import_module

from commands.kernel import COMMANDS, JOBS, POLICIES
from domain.kernel import EVENTS
from projections.kernel import MODELS, QUERIES

CONTEXTS = (
    "commands.access",
    "commands.appeals",
    "commands.catalogue",
    "commands.memberships",
    "commands.people",
    "commands.people.administration",
    "commands.people.bans",
    "commands.people.identities",
    "commands.people.letters",
    "commands.people.secondfactors",
    "commands.people.sessions",
    "commands.pictures",
    "commands.tenancy",
    "projections.appeals",
    "projections.audit",
    "projections.catalogue",
    "projections.memberships",
    "projections.moderation",
    "projections.people",
    "projections.security",
    "projections.tenancy",
)
for context in CONTEXTS:
    import_module(context)

__all__ = ["COMMANDS", "EVENTS", "JOBS", "MODELS", "POLICIES", "QUERIES"]
