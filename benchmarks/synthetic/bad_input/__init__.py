"""Clips for robustness: input that labels may refuse, in one line, or must not be fooled by."""
