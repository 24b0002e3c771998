# Lines of an initramfs' init: works with the devices over the transport that it is told, and over calls looks at all
# that the modules give.  What both transports must agree about is a line "linux: result WHAT".
# tests/linux/modules_inside.py reads it, and the checks (checks.sh, which goes before this).
expected
insmod /own/paravirt.ko
[ "$transport" = mmio ] || insmod /own/paravirt_virtio.ko
export PATH=/bin:/own
exec >/dev/ttyPV0 2>&1 </dev/null

upcalls() { grep -c "^ *[0-9]*:.*[1-9].* paravirt .*upcall" /proc/interrupts; } # CPUs that had some
over_calls() { for device in /sys/bus/virtio/devices/*; do readlink -f $device; done | grep -c /platform/paravirt/; }

# The host does something, and the guest sees a condition come true.
ask() {
	echo "linux: asks $1 $2"
	what="$1 $2"
	shift 2
	for try in $(seq 100); do "$@" && break; sleep 0.1; done
	check "$what" "$@"
}

logged() { dmesg | grep -q "$1"; }
generations() { dmesg | sed -n 's/.* continuity event .* generation //p' | sort -u | wc -l; }

continuity() {
	paravirtctl watch 1 >/tmp/watched &
	watcher=$!
	for try in $(seq 100); do ls -l /proc/$watcher/fd | grep -q /dev/paravirt && break; sleep 0.1; done
	ask pause told logged "continuity event 2, the 2\\. of"
	wait $watcher
	check "programs are told" grep -q "before-pause\|resumed" /tmp/watched
	ask copy told logged "continuity event 4, the 4\\. of"
	check "another generation" [ "$(generations)" = 2 ]
}

data() {
	check "disks" [ -b /dev/vda -a -b /dev/vdb ]
	echo "linux: result disk read $(summed /dev/vda)"
	mke2fs /dev/vdb >/dev/null 2>&1 && mount -t ext2 /dev/vdb /mnt
	cp /dev/vda /mnt/copy && umount /mnt
	echo 3 >/proc/sys/vm/drop_caches
	mount -t ext2 -o ro /dev/vdb /mnt
	echo "linux: result disk written $(summed /mnt/copy)"
	umount /mnt
	ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
	talk 10.0.2.2 "$port" 'GET /file HTTP/1.0\r\n\r\n' >/tmp/answer
	check "HTTP" grep -q "^HTTP/1.0 200 OK" /tmp/answer
	echo "linux: result net $(tail -c "$size" /tmp/answer | sha256sum | cut -c -64)"
}

# Drivers and devices do so while CPUs do: what one holds the others wait for, and nothing for ever.
comes_and_goes() {
	rm /tmp/done
	(while [ ! -e /tmp/done ]; do for on in 0 1; do echo $on >/sys/devices/system/cpu/cpu1/online; done; done) &
	for round in $(seq 3); do rmmod virtio_net && insmod /modules/*-virtio_net || break; done
	check "drivers while CPUs come and go" [ -e /sys/class/net/eth0 -a $round = 3 ]
	for round in $(seq 3); do rmmod paravirt_virtio && insmod /own/paravirt_virtio.ko || break; done
	check "devices while CPUs come and go" [ "$(over_calls)" = "$devices" -a $round = 3 ]
	: >/tmp/done
	wait
	echo "linux: result disk after all that $(summed /dev/vda)"
}

modules() {
	check "devices over calls" [ "$(over_calls)" = "$devices" ]
	check "upcalls on each CPU" [ "$(upcalls)" = "$(nproc)" ]
	cd /sys/devices/system/clocksource/clocksource0
	echo paravirt >current_clocksource
	check "clock source" grep -q paravirt current_clocksource
	cd /
	before=$(date +%s); sleep 1; after=$(date +%s)
	check "clock goes on" [ "$after" -gt "$before" ]
	wall=$(paravirtctl time | sed -n 's/^wall_ns\t\([0-9]*\)[0-9]\{9\}$/\1/p')
	check "wall clock" [ $(($(date +%s) - wall)) -le 2 ]
	check "steal time" [ "$(paravirtctl steal | grep -c '^[0-9]')" = "$(nproc)" ]
	echo paravirt >/sys/class/misc/hw_random/rng_current
	check "entropy" [ "$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c)" = 64 ]
	check "entropy for the kernel's generator" paravirtctl reseed
	for try in $(seq 300); do [ "$(inflated)" -ge "$pages" ] && break; sleep 0.2; done
	check "balloon" [ "$(inflated)" -ge "$pages" ]
	dmesg >/tmp/dmesg
	check "reports of free pages" grep -q "Free page reporting enabled" /tmp/dmesg
	check "calls of anybody's" su nobody -s /bin/sh -c "/own/paravirtctl info"
	check "calls that take a capability" fails su nobody -s /bin/sh -c "/own/paravirtctl watchdog 9"
	check "calls that are the kernel's own" fails paravirtctl call 0x60003
	continuity
	if [ -e /sys/devices/system/cpu/cpu1/online ]; then
		(while [ ! -e /tmp/done ]; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2>/dev/null; done) &
		echo 0 >/sys/devices/system/cpu/cpu1/online
		echo "linux: result disk with a CPU less $(dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | sha256sum | cut -c -64)"
		echo 1 >/sys/devices/system/cpu/cpu1/online
		: >/tmp/done
		wait
		comes_and_goes
	fi
	echo "linux: asks word"
	read -r -t 60 heard </dev/ttyPV0
	check "console input" [ "$heard" = hello ]
	ask disk comes [ -b /dev/vdc ]
	echo "linux: result disk that came $(summed /dev/vdc)"
	ask disk leaves [ ! -e /dev/vdc ]
	check "unloading" rmmod paravirt_virtio
	check "devices that left with it" [ ! -e /dev/vda ]
	check "loading again" insmod /own/paravirt_virtio.ko
	echo "linux: result disk again $(summed /dev/vda)"
	rmmod virtio_net # nobody but the module itself gives the device back
	ask network leaves one_less
}

one_less() { [ "$(over_calls)" = $((devices - 1)) ]; }

data
if [ "$transport" = mmio ]; then
	check "no entropy by calls where it is denied" fails grep -q paravirt /sys/class/misc/hw_random/rng_available
	poweroff -f
fi
modules
echo c >/proc/sysrq-trigger
