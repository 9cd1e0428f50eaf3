"""An emulated Raspberry Pi: an arm64 Debian guest in QEMU that counts instructions, driven over SSH like a real one."""
