"""Readers of datasets with point tracks, one file a layout."""
