"""Devices: one module per kind, the device-side agent, device profiles as data. Knows .tflite files, never torch."""
