"""How the gate writes a number with its unit."""

from __future__ import annotations


def quantity(value: float, unit: str = "1") -> str:
    """`2.25 MOS`, `320,000 bytes`, `17.4 µs`; counts and ratios (unit `1`) stand alone."""
    text = f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.6g}"
    return text if unit == "1" else f"{text} {'µs' if unit == 'us' else unit}"
