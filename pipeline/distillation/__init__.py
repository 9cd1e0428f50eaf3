"""Distillation methods: how a teacher takes part in a training loss. One method per module."""
