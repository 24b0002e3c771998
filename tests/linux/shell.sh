#!/bin/sh
# Small tests of what a shell asks of a kernel: processes, pipes, signals, files, time.  The first that fails is named.
set -u
cd "$(mktemp -d)" || exit 1
fail() { echo "$1"; exit 1; }

[ "$(printf '%s\n' c a b | sort | tr -d '\n')" = abc ] || fail "pipe of three"
[ "$(seq 200 | while read -r n; do echo "$n"; done | wc -l)" = 200 ] || fail "loop in a pipe"
(exit 7); [ $? = 7 ] || fail "status of a subshell"
sleep 60 & kill $!; wait $!; [ $? = 143 ] || fail "signal that ends a process"
trap 'caught=yes' USR1; kill -USR1 $$; [ "${caught-}" = yes ] || fail "signal that is caught"
mkfifo pipe; echo text >pipe & [ "$(cat pipe)" = text ] || fail "named pipe"; wait
ln -s target link; [ "$(readlink link)" = target ] || fail "symbolic link"
echo one >file; ln file other; echo two >>other; [ "$(wc -l <file)" = 2 ] || fail "hard link"
mv file moved; [ ! -e file ] && [ -s moved ] || fail "rename"
chmod 640 moved; [ "$(stat -c %a moved)" = 640 ] || fail "mode"
dd if=/dev/zero of=sparse bs=1 count=1 seek=1048575 2>/dev/null; [ "$(stat -c %s sparse)" = 1048576 ] || fail "sparse file"
tar cf - moved sparse | tar tf - | grep -q sparse || fail "tar through a pipe"
[ "$(echo text | gzip | gunzip)" = text ] || fail "gzip"
before=$(date +%s); sleep 1; [ "$(date +%s)" -gt "$before" ] || fail "time goes on"
for n in 1 2 3 4; do (seq 5000 | sha256sum >sum.$n) & done; wait
[ "$(sort -u sum.* | wc -l)" = 1 ] || fail "four processes at once agree"
(ulimit -v 20000; head -c 100000000 /dev/zero | sort) >/dev/null 2>&1 && fail "limit of memory"
true
