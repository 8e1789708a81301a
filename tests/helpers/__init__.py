"""What several test files share: small models, made-up files, a Hub on loopback."""
