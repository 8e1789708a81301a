"""The dataset: loading, streaming and verifying shards."""
