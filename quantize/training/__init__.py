"""Quantization-aware training: networks that compute in float what their int8 files will compute."""
