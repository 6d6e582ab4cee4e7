"""Tenants: the organisations that share one system."""

MAIN = "main"
"""The tenant of whoever names none; it is always there."""
