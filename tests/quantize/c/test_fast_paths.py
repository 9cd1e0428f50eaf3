"""The kernels written for a machine equal plain C bit for bit, run on that machine's emulated core, and are quicker."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from earshot.core.errors import DeviceError
from earshot.targets.mcu.boards import BOARDS
from earshot.targets.mcu.emulator import emulate
from earshot.targets.mcu.toolchain import build

TOOLS = ("arm-none-eabi-gcc", "qemu-system-arm", "gcc")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
INSTALL = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm gcc"
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: {INSTALL}")

HERE = Path(__file__).parent
KERNELS = HERE.parents[2] / "quantize" / "c" / "kernels"
GUARD = 32
# Machine -> board, flags, which header, how many times fewer instructions than plain C.
MACHINES = {
    "cortex-m4": ("mps2-an386", ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"), 1, 2.0),
    "cortex-m33": ("mps2-an505", ("-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"), 1, 2.0),
    "cortex-m55": ("mps3-an547", ("-mcpu=cortex-m55", "-mfloat-abi=hard"), 2, 4.0),
}
OPERATIONS = ("", "matmul_s8", "matmul_s16", "depthwise_s8", "depthwise_s16", "add_s8", "mul_s8", "add_s16", "mul_s16")


@dataclass(frozen=True)
class Call:
    """One call of a primitive; `arrays` as main.c reads them. The other fields are explained there."""

    operation: str
    arguments: tuple[int, ...]
    arrays: tuple[np.ndarray, ...]
    output_bytes: int
    skew: int = 0
    edge: int = -1
    over: int = -1
    changed: int = 0

    def words(self) -> np.ndarray:
        words = np.zeros(32, np.int32)
        words[:5] = OPERATIONS.index(self.operation), self.output_bytes, self.skew, self.edge, self.over
        words[5 : 5 + len(self.arrays)] = [array.nbytes for array in self.arrays]
        words[11 : 11 + len(self.arguments)] = self.arguments
        words[31] = self.changed
        return words


@dataclass
class Draw:
    """Random calls: values over their whole range and often at its ends, shifts and multipliers at ties."""

    seed: int
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self):
        self.random = np.random.default_rng(self.seed)

    def integers(self, dtype, size) -> np.ndarray:
        limits = np.iinfo(dtype)
        values = self.random.integers(limits.min, limits.max, size, endpoint=True)
        ends = self.random.random(size) < self.random.choice([0, 0.2, 1])
        return np.where(ends, np.where(self.random.random(size) < 0.5, limits.min, limits.max), values).astype(dtype)

    def weights(self, size) -> np.ndarray:
        return np.maximum(self.integers(np.int8, size), -127)

    def bias(self, wide: bool, size) -> np.ndarray:
        reach = self.random.choice([0, 1 << 12, 1 << 20, (1 << 38) if wide else (1 << 30)])
        return self.random.integers(-reach, reach, size, endpoint=True).astype(np.int64 if wide else np.int32)

    def scales(self, wide: bool, rows: int) -> list[np.ndarray]:
        low, high = (14, 15) if wide else (30, 31)
        multiplier = self.random.integers(1 << low, 1 << high, rows)
        # Powers of two make ties.
        multiplier[self.random.random(rows) < self.random.choice([0, 1])] = 1 << low
        first, last = self.random.choice([[-13, -3], [-24, -14], [-2, 2], [-31, -29]])
        shift = self.random.integers(first, min(last, 7), rows, endpoint=True)
        return [multiplier.astype(np.int32), shift.astype(np.int8)]

    def real_scales(self, rows: int) -> list[np.ndarray]:
        multiplier, shift = self.scales(False, rows)
        shift = np.minimum(shift, 0).astype(np.int8)
        error = self.random.uniform(-0.5, 0.5, rows) * self.random.choice([0, 1])
        return [multiplier, shift, (multiplier + error) * np.exp2(shift - 31.0)]

    def limits(self, dtype) -> tuple[int, int]:
        ends = np.iinfo(dtype)
        return [(ends.min, ends.max), (0, ends.max), (-100, 90)][self.random.choice([0, 0, 1, 2])]

    def zero_point(self, dtype) -> int:
        return int(self.random.integers(-128, 127, endpoint=True)) if dtype == np.int8 else 0

    def place(self, arrays: int) -> dict[str, int]:
        return {"skew": int(self.random.integers(0, 2)) * 2, "edge": int(self.random.integers(-1, arrays))}

    def matmul(self, dtype, n: int, rows: int, positions: int, real: bool = False) -> Call:
        wide = dtype == np.int16
        x_stride = int(self.random.choice([n, max(n // 2, 1), n + 3, 0]))
        y_stride = rows + int(self.random.choice([0, 5]))
        x = self.integers(dtype, max((positions - 1) * x_stride + n, 1))
        scales = self.real_scales(rows) if real else self.scales(wide, rows)
        return Call(
            f"matmul_s{16 if wide else 8}",
            (x_stride, positions, n, rows, y_stride, self.zero_point(dtype), *self.limits(dtype)),
            (x, self.weights(max(rows * n, 1)), self.bias(wide, rows), *scales),
            (positions * y_stride) * x.itemsize,
            **self.place(5),
        )

    def depthwise(self, dtype, taps: int, channels: int) -> Call:
        wide = dtype == np.int16
        x = self.integers(dtype, taps * channels)
        return Call(
            f"depthwise_s{16 if wide else 8}",
            (taps, channels, channels, 0, 0, self.zero_point(dtype), *self.limits(dtype)),
            (x, self.weights(taps * channels), self.bias(wide, channels), *self.scales(wide, channels)),
            channels * x.itemsize,
            **self.place(5),
        )

    def elementwise(self, kind: str, dtype, n: int) -> Call:
        wide, half = dtype == np.int16, 1 << 30
        steps = [(1, 1), (0, 1), (1, 0)][self.random.choice([0, 0, 1, 2])]
        a, b = (self.integers(dtype, n if step else 1) for step in steps)
        zeros = [self.zero_point(dtype) for _ in range(2)]
        many = [half if self.random.random() < 0.3 else int(self.random.integers(half, 2 * half)) for _ in range(3)]
        shifts = [-int(self.random.integers(0, 6)) for _ in range(2)]
        if kind == "add":
            last = int(self.random.integers(-20 if not wide else -15, -14 if not wide else -11))
            halves = [zeros[0], many[0], shifts[0] - 1, zeros[1], many[1], shifts[1] - self.random.choice([0, 1])]
            operands = [*map(int, halves), 15 if wide else 20, int(self.random.integers(2)), many[2], last]
        else:
            last = int(self.random.integers(-16 if wide else -9, -12 if wide else 1))
            operands = [zeros[0], 0, 0, zeros[1], 0, 0, 0, 0, many[2], last]
        over = [-1, 0 if steps[0] else -1, 1 if steps[1] else -1][self.random.choice(3)]
        return Call(
            f"{kind}_s{16 if wide else 8}",
            (*steps, n, *operands, self.zero_point(dtype), *self.limits(dtype)),
            (a, b),
            n * a.itemsize,
            over=over,
            **(self.place(2) if over < 0 else {}),
        )


def random_calls(seed: int) -> list[Call]:
    draw = Draw(seed)
    calls = []
    for dtype in (np.int8, np.int16):
        for n in (0, 1, 3, 4, 5, 15, 16, 17, 31, 64, 100, 255, 256, 257, 300, 1023, 1030):
            for positions in (1, int(draw.random.integers(2, 10))):
                calls.append(draw.matmul(dtype, n, int(draw.random.integers(1, 23)), positions))
            calls.append(draw.matmul(dtype, n, int(draw.random.integers(1, 40)), 1, real=True))
        for channels in (1, 3, 4, 7, 8, 15, 16, 17, 18, 33, 40):
            calls += [draw.depthwise(dtype, taps, channels) for taps in (1, 6, 9)]
        for n in (1, 2, 4, 7, 16, 33):
            calls += [draw.elementwise(kind, dtype, n) for kind in ("add", "mul") for _ in range(4)]
    return calls


@dataclass(frozen=True)
class Machine:
    """A program with both implementations on a board."""

    name: str
    folder: Path

    def run(self, calls: list[Call]) -> tuple[list[tuple[bytes, bytes]], np.ndarray]:
        """What each call left with plain C and with the machine's own, and their instructions `[calls, 2]`."""
        board, flags, header, _ = MACHINES[self.name]
        edge = BOARDS[board].ram.origin + BOARDS[board].ram.length
        defines = (f"-DMACHINE={header}", f"-DRAM_END={edge:#x}")
        program = build(self.folder, BOARDS[board], (*flags, "-mthumb", "-O3", "-Werror", *defines))
        content = b"".join(array.tobytes() for call in calls for array in (call.words(), *call.arrays))
        marks = [program.symbols[name] for name in ("mark_plain", "mark_fast", "mark_end")]
        outcome = emulate(program, BOARDS[board], {"calls": content + bytes(128)}, marks, 120, self.name)
        counts = outcome.passings.counts.reshape(-1, 4)
        results, left = outcome.files["results"], []
        for call in calls:
            size = call.output_bytes + 2 * GUARD
            left.append((results[:size], results[size : 2 * size]))
            results = results[2 * size :]
        assert not results and len(counts) == len(calls)
        return left, np.stack([counts[:, 1] - counts[:, 0], counts[:, 3] - counts[:, 2]], 1)


@pytest.fixture(params=MACHINES)
def machine(request, tmp_path) -> Machine:
    for path in (*KERNELS.glob("*.h"), *(KERNELS / name for name in ("plain.c", "requantize.c"))):
        shutil.copy(path, tmp_path)
    for path in (HERE / "fast_paths").iterdir():
        shutil.copy(path, tmp_path)
    return Machine(request.param, tmp_path)


def untouched(call: Call, left: bytes) -> bool:
    """Whether nothing was written before or after the output, or between its rows."""
    guard = b"\xa5" * GUARD
    if not left.startswith(guard) or not left.endswith(guard):
        return False
    if not call.operation.startswith("matmul"):
        return True
    _, positions, _, rows, y_stride, *_ = call.arguments
    cells = np.frombuffer(left[GUARD:-GUARD], np.uint8).reshape(positions, y_stride, -1)
    return bool((cells[:, rows:] == 0xA5).all())


def test_every_output_is_that_of_plain_c(machine):
    calls = random_calls(0)
    left, _ = machine.run(calls)
    wrong = [call.operation for call, (plain, fast) in zip(calls, left, strict=True) if plain != fast]
    assert wrong == []
    assert all(untouched(call, fast) for call, (_, fast) in zip(calls, left, strict=True))
    # The calls say something: outputs differ among themselves and are not all at the ends of their range.
    assert sum(len(set(plain[GUARD:-GUARD])) > 3 for plain, _ in left) > len(calls) / 3


def test_a_changed_weight_would_be_found(machine):
    draw = Draw(1)
    calls = []
    for dtype in (np.int8, np.int16):
        call = draw.matmul(dtype, 40, 8, 4)
        scales = (np.full(8, 1 << (30 if dtype == np.int8 else 14), np.int32), np.full(8, -3, np.int8))
        inputs = (np.full_like(call.arrays[0], 9), call.arrays[1] // 50, np.zeros_like(call.arrays[2]), *scales)
        limits = np.iinfo(dtype)
        call = replace(call, arrays=inputs, arguments=(*call.arguments[:5], 0, limits.min, limits.max), edge=-1)
        calls += [call, replace(call, changed=1)]
    left, _ = machine.run(calls)
    assert [plain == fast for plain, fast in left] == [True, False, True, False]


# The M4's board answers behind its RAM; its kernels are those of the M33.
@pytest.mark.parametrize("machine", ["cortex-m33", "cortex-m55"], indirect=True)
def test_reading_past_an_array_would_fault(machine):
    call = replace(Draw(2).matmul(np.int8, 64, 4, 1), edge=0, skew=0)
    short = (call.arrays[0][:60], *call.arrays[1:])
    with pytest.raises(DeviceError, match=r"fault in .*bus error"):
        machine.run([replace(call, arrays=short)])


def test_convolutions_take_so_many_times_fewer_instructions(machine):
    draw = Draw(3)
    calls = []
    # Pointwise convolutions and windows in one piece, as networks have them.
    for n, rows, positions in ((20, 40, 33), (40, 20, 33), (80, 40, 9), (100, 40, 9), (64, 64, 64)):
        for dtype in (np.int8, np.int16):
            call, limits = draw.matmul(dtype, n, rows, positions), np.iinfo(dtype)
            low = 1 << (14 if dtype == np.int16 else 30)
            scales = (draw.random.integers(low, 2 * low, rows).astype(np.int32), np.full(rows, -9, np.int8))
            arrays = (draw.integers(dtype, positions * n), *call.arrays[1:2], np.zeros_like(call.arrays[2]), *scales)
            arguments = (n, positions, n, rows, rows, 0, limits.min, limits.max)
            size = positions * rows * arrays[0].itemsize
            calls.append(Call(call.operation, arguments, arrays, size))
    left, counts = machine.run(calls)
    assert all(plain == fast for plain, fast in left)
    for call, (plain, fast) in zip(calls, counts, strict=True):
        assert plain / fast >= MACHINES[machine.name][3], call.arguments
        assert plain <= 12 * call.arguments[1] * call.arguments[2] * call.arguments[3]
    again = machine.run(calls)[1]
    assert (again == counts).all()
