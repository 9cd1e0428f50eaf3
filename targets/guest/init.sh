#!/bin/busybox sh
# First process of the guest: mounts, network of QEMU's user mode, SSH server.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
busybox=/bin/busybox

for kind in proc:/proc sysfs:/sys devtmpfs:/dev tmpfs:/run tmpfs:/tmp; do
    $busybox mkdir -p "${kind#*:}"
    $busybox mount -t "${kind%%:*}" "${kind%%:*}" "${kind#*:}"
done
$busybox mkdir -p /dev/pts /dev/shm /run/sshd
$busybox mount -t devpts devpts /dev/pts
$busybox chmod 1777 /tmp /dev/shm
$busybox ln -s /proc/self/fd /dev/fd
$busybox --install -s /bin 2>/dev/null # what the packages do not bring
$busybox hostname earshot-guest
# After a wrong turn nothing may hang on: the emulator is told not to restart, so that this ends it.
fail() {
    echo "earshot guest: $1"
    $busybox reboot -f
}

while read -r module; do
    [ -e "/modules/$module.ko" ] && { $busybox insmod "/modules/$module.ko" || fail "no module $module"; }
done </modules/order

$busybox ip link set lo up
$busybox ip addr add 10.0.2.15/24 dev eth0 && $busybox ip link set eth0 up || fail "no network device"
/usr/sbin/sshd -D -e &
while [ -d "/proc/$!" ] && ! $busybox grep -q ':0016 .* 0A ' /proc/net/tcp; do
    $busybox usleep 20000
done
[ -d "/proc/$!" ] && echo "earshot guest: ready"
wait
fail "the SSH server ended"
