"""Hearing-aid-class NPUs: Arm Ethos-U, as their compiler Vela estimates them."""
