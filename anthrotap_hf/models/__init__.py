"""Point trackers as transformers models, one folder each: configuration, model, conversion of released checkpoints."""
