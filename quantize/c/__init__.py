"""Dependency-free C from an integer stream model."""
