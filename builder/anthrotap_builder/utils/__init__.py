"""Utilities of the builder."""
