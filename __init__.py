"""earshot: turns a speech-enhancement network into a device-ready streaming model, and refuses one that misses its budgets."""
