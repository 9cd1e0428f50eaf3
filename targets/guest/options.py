"""How the emulated Raspberry Pi is set up: options of the driver `guest`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from earshot.core.config import Config

Cpu = Literal["cortex-a53", "cortex-a72", "cortex-a76"]
WRONG_CPU = "max: QEMU computes int8 models wrongly on it, off by up to 17 steps"


class GuestOptions(Config):
    """Options of the driver `guest`.

    Attributes:
        cpu: emulated processor, one of those whose outputs were compared with a reference.
        memory_mb: memory of the guest.
        frames, repeats, warmup: at most this many: counts repeat exactly, and emulated frames are slow.
        traced_frames: frames whose outputs are compared with this machine's; 0 compares none.
        cpi, cpi_source: cycles an instruction takes, and who says so; gives estimated times, which none gives else.
        port: of 127.0.0.1 for the guest's SSH server; None takes any that is free.
        boot_timeout_seconds: a guest that is not up by then counts as failed.
    """

    cpu: Cpu
    memory_mb: int = Field(default=1024, ge=512)
    frames: int = Field(default=50, ge=1)
    repeats: int = Field(default=1, ge=1)
    warmup: int = Field(default=10, ge=0)
    traced_frames: int = Field(default=20, ge=0)
    cpi: float | None = Field(default=None, gt=0)
    cpi_source: str | None = Field(default=None, min_length=1)
    port: int | None = Field(default=None, ge=1024, le=65535)
    boot_timeout_seconds: float = Field(default=180.0, gt=0)

    @field_validator("cpu", mode="before")
    @classmethod
    def _right_cpu(cls, value: object) -> object:
        if value == "max":
            raise ValueError(WRONG_CPU)
        return value

    @model_validator(mode="after")
    def _sourced(self) -> GuestOptions:
        if (self.cpi is None) != (self.cpi_source is None):
            raise ValueError("cpi and cpi_source come together: an estimate names its source")
        return self
