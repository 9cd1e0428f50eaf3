"""Budgets, the gate and its reports. Reads finished results only: imports neither torch nor a TFLite runtime."""
