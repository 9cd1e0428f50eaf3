"""Boards with Linux and an SSH server, a Raspberry Pi first of all."""
