"""Scripts behind the published numbers, and the synthetic and real clips that they measure on."""
