"""The guest as a machine: what its clock counts, and that nothing of it outlives whoever started it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from earshot.core.errors import DeviceError
from earshot.targets.guest.image import Image
from earshot.targets.guest.machine import EMULATOR, LEASH, Machine

COMPILER = "aarch64-linux-gnu-gcc"
# Two instructions a turn, between two readings of the counter that the guest's clock is made of.
COUNTED_LOOP = """
#include <stdio.h>
static unsigned long turn(unsigned long count) {
    unsigned long before, after;
    __asm__ volatile("isb; mrs %0, cntvct_el0; 1: subs %2, %2, #1; b.ne 1b; isb; mrs %1, cntvct_el0"
                     : "=&r"(before), "=&r"(after), "+r"(count) : : "cc");
    return after - before;
}
int main(void) {
    unsigned long frequency;
    __asm__("mrs %0, cntfrq_el0" : "=r"(frequency));
    printf("%lu", frequency);
    for (int i = 0; i < 5; i++) printf(" %lu", turn(1000));
    for (int i = 0; i < 5; i++) printf(" %lu", turn(101000));
    return 0;
}
"""


def test_it_is_an_arm_board_with_this_processor(shell):
    assert shell("uname -m").strip() == "aarch64"
    assert "0xd08" in shell("cat /proc/cpuinfo")  # part number of a Cortex-A72
    assert shell("nproc").strip() == "1"


def test_it_does_not_reach_this_machine(shell):
    knock = 'busybox nc -w 3 "$1" "$2" </dev/null >/dev/null 2>&1 && echo open || echo closed'
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        # 10.0.2.2 is this machine's loopback interface in QEMU's user network
        assert shell(knock, "10.0.2.2", str(server.getsockname()[1])).strip() == "closed"
    assert shell(knock, "127.0.0.1", "22").strip() == "open"  # its own SSH server: the knock works


@pytest.mark.skipif(not shutil.which(COMPILER), reason=f"{COMPILER} counts: apt-get install gcc-aarch64-linux-gnu")
def test_a_tick_of_its_clock_is_one_instruction(shell, tmp_path):
    (tmp_path / "loop.c").write_text(COUNTED_LOOP)
    program = tmp_path / "loop"
    subprocess.run([COMPILER, "-O1", "-static", "-o", program, tmp_path / "loop.c"], check=True)
    shell('cat >"$1" && chmod 755 "$1"', "/tmp/loop", data=program.read_bytes())
    frequency, *spans = map(int, shell('exec "$1"', "/tmp/loop").split())
    assert frequency == 10**9
    # An interrupt may fall into any turn; the shortest of each kind have none.
    assert min(spans[5:]) - min(spans[:5]) == 2 * 100_000


@pytest.mark.usefixtures("no_emulator_left")
def test_a_taken_port_is_named(image):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(DeviceError, match=f"port {port} of 127.0.0.1 is taken"), Machine("pi", image, port=port):
            pass


@pytest.mark.usefixtures("no_emulator_left")
def test_a_guest_that_is_not_up_in_time_is_given_up(image):
    with pytest.raises(DeviceError, match=r"not up after 0\.5 s"), Machine("pi", image, boot_seconds=0.5):
        pass


@pytest.mark.usefixtures("no_emulator_left")
def test_a_broken_image_ends_with_what_the_guest_said(image, tmp_path):
    shutil.copy(image.kernel, tmp_path / "kernel")
    (tmp_path / "initrd").write_bytes(b"not an archive at all" * 1000)
    with pytest.raises(DeviceError, match="while the guest started") as caught, Machine("pi", Image(tmp_path)):
        pass
    assert "image anew" in str(caught.value.hint)


@pytest.mark.usefixtures("no_emulator_left")
def test_an_emulator_that_cannot_start_is_named(image, tmp_path):
    with pytest.raises(DeviceError, match=f"{EMULATOR} ended with code 1"), Machine("pi", Image(tmp_path)):
        pass


def test_without_an_emulator_the_command_is_named(image, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=f"{EMULATOR} is not installed") as caught, Machine("pi", image):
        pass
    assert "apt-get install qemu-system-arm" in str(caught.value.hint)


def test_a_killed_earshot_takes_its_emulator_along(image):
    script = (
        "import sys; from pathlib import Path; from earshot.targets.guest.image import Image;"
        "from earshot.targets.guest.machine import Machine; machine = Machine('pi', Image(Path(sys.argv[1])));"
        "machine.__enter__()"
    )
    starter = subprocess.Popen([sys.executable, "-c", script, str(image.folder)])
    emulator = None
    end = time.monotonic() + 60
    while emulator is None and time.monotonic() < end:
        children = psutil.Process(starter.pid).children()
        emulator = next((child for child in children if child.name().startswith("qemu-system")), None)
        time.sleep(0.05)
    assert emulator is not None and emulator.is_running()
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    emulator.wait(10)  # raises TimeoutExpired


def test_a_program_whose_starter_is_gone_already_does_not_start(tmp_path):
    mark = tmp_path / "started"
    command = [sys.executable, str(LEASH)]
    subprocess.run([*command, "1", shutil.which("touch"), str(mark)], check=True)
    assert not mark.exists()
    subprocess.run([*command, str(os.getpid()), shutil.which("touch"), str(mark)], check=True)
    assert mark.exists()
