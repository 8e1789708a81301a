"""Utilities that know nothing of point tracks."""
