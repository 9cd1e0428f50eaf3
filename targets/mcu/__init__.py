"""Cortex-M microcontrollers: generated C, compiled for the core and run in an emulator that counts instructions."""
