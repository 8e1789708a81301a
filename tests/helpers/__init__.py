"""Helpers of several test files: small models, made-up files, a Hub on loopback."""
