"""Scripts behind the published numbers, one a number."""
