"""Simulated sound of several microphones: rooms, directional and diffuse noise."""
