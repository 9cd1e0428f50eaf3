"""The training loop, its losses and schedules."""
