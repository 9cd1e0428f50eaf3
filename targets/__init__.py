"""Devices: one module per kind of device, the device-side agent, device profiles as data. Knows .tflite files, never torch."""
