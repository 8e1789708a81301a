"""The proving ground: rendered clips with exact truth, and how right labels are when held against it."""
