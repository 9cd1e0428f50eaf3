"""Dependency-free C from an integer stream model."""

from earshot.quantize.c.bundle import GeneratedModel, GeneratedOperator, generate

__all__ = ["GeneratedModel", "GeneratedOperator", "generate"]
