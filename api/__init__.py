"""The HTTP face: routes generated from the registry, and the few that are not plain."""
