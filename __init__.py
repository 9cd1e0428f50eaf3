"""earshot: turns a speech-enhancement network into a device-ready streaming model, or refuses it for its budgets."""
