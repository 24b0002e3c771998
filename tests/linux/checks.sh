# What the guests' halves of the tests have in common.  A check is a line "linux: ok WHAT" or "linux: FAILED WHAT".

expected() { # What the host's half expects, which comes on the command line.
	for word in $(cat /proc/cmdline); do
		case $word in expect.*=*) eval "${word#expect.}" ;; esac
	done
}

check() {
	what=$1
	shift
	if "$@" >/tmp/said 2>&1; then
		echo "linux: ok $what"
	else
		echo "linux: FAILED $what: $*: $(tail -n 3 /tmp/said | tr '\n' ' ')"
	fi
}

fails() { ! "$@"; }
summed() { sha256sum "$1" | cut -d ' ' -f 1; }
inflated() { sed -n 's/^balloon_inflate //p' /proc/vmstat; } # pages

