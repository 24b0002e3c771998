# The first process of the Linux guest: looks for its devices, works with them, reboots once, and switches off.
# tests/linux/inside.py reads the checks (checks.sh, which goes before this).
PATH=/bin:/sbin # busybox prefers its own mke2fs to whatever is there
/bin/busybox --install -s /bin 2>/dev/null
exec >/dev/hvc0 2>&1 </dev/null
mount -t tmpfs tmp /tmp
expected

drivers() { # COUNT of the devices that a driver has
	ls -d /sys/bus/virtio/drivers/$1/virtio* 2>/dev/null | wc -l
}

devices() {
	check "vCPUs" [ "$(nproc)" = "$cpus" ]
	check "disks" [ "$(drivers virtio_blk)" = 2 ]
	check "network device" [ "$(drivers virtio_net)" = 1 ]
	check "console" [ "$(drivers virtio_console)" = 1 ]
	check "entropy device" [ "$(drivers virtio_rng)" = 1 ]
	check "balloon device" [ "$(drivers virtio_balloon)" = 1 ]
	check "vsock device" [ "$(drivers vmw_vsock_virtio_transport)" = 1 ]
	check "clock" grep -q kvm-clock /sys/devices/system/clocksource/clocksource0/available_clocksource
	check "serial port" grep -q 16550A /proc/tty/driver/serial
	check "generation id" [ -e /sys/bus/acpi/devices/PVRT0002:00 ]
	check "platform device" [ -e /sys/bus/acpi/devices/PVRT0001:00 ]
}

file_system() {
	check "mke2fs" /sbin/mke2fs -q -t ext4 /dev/vdb
	check "fsck of an empty file system" /sbin/e2fsck -f -n /dev/vdb
	check "mount" mount /dev/vdb /mnt
	check "dd" dd if=/dev/urandom of=/mnt/noise bs=64k count=64
	before=$(summed /mnt/noise)
	check "copy of many files" cp -a /bin /sbin /mnt
	check "sync and unmount" umount /mnt
	echo 3 >/proc/sys/vm/drop_caches
	check "fsck of a full one" /sbin/e2fsck -f -n /dev/vdb
	check "second mount" mount -o ro /dev/vdb /mnt
	check "checksum after it" [ "$(summed /mnt/noise)" = "$before" ]
	check "files after it" cmp /bin/busybox /mnt/bin/busybox
	check "second unmount" umount /mnt
	check "direct read" dd if=/dev/vdb of=/dev/null bs=1M count=16 iflag=direct
}

others() {
	check "entropy" [ "$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c)" = 64 ]
	ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
	check "ping" ping -c 2 -W 10 10.0.2.2
	talk 10.0.2.2 "$port" 'GET /file HTTP/1.0\r\n\r\n' >/tmp/answer
	check "HTTP" grep -q '^HTTP/1.0 200 OK' /tmp/answer
	tail -c "$size" /tmp/answer >/tmp/file
	check "checksum of what came" [ "$(summed /tmp/file)" = "$sum" ]
	check "vsock" [ "$(talk vsock 1234 ping)" = pong ]
	for try in $(seq 50); do
		[ "$(inflated)" -ge "$pages" ] && break
		sleep 0.2
	done
	check "balloon" [ "$(inflated)" -ge "$pages" ]
	check "shell" shell-tests
}

if [ ! -e /etc/second ]; then
	echo "linux: up after $(cut -d ' ' -f 1 /proc/uptime) s"
	devices
	file_system
	others
	: >/etc/second
	sync
	echo "linux: reboots after $(cut -d ' ' -f 1 /proc/uptime) s"
	reboot -f
fi
check "root file system after a reboot" [ -e /etc/second ]
rm /etc/second
sync
mount -o remount,ro /
echo "linux: switches off"
poweroff -f
