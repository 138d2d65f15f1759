#!/bin/sh
# The memory of digest does not depend on how many files there are: over a million small ones it is what it is over ten
# thousand in folders of the same size. Also: so many lines are in order and right.
set -u
. "$WEIR_SRC/test/support/script.sh"
digest=$WEIR_BUILD/examples/digest
if [ ! -x "$digest" ]; then
    skip digest_million 'built without libcrypto'
    finish
fi
LC_ALL=C
export LC_ALL
folders=1000 # of a thousand files each
[ "${WEIR_LONG_SECONDS:-600}" -ge 100 ] || folders=100

# tree NAME FOLDERS: a tenth of them in each of ten. A folder has ten files, under a hundred names each: to digest that
# makes no difference, but a million inodes would take minutes to make and to remove.
tree() {
    python3 - "$tmp/$1" "$2" <<'PYTHON'
import os, sys
root, folders = sys.argv[1], int(sys.argv[2])
for i in range(folders):
    folder = f'{root}/{i % 10}/folder-{i}'
    os.makedirs(folder)
    at = os.open(folder, os.O_DIRECTORY)
    for j in range(10):
        fd = os.open(str(j), os.O_WRONLY | os.O_CREAT, dir_fd=at)
        os.write(fd, b'%d/%d\n' % (i, j))
        os.close(fd)
    for j in range(10, 1000):
        os.link(str(j % 10), str(j), src_dir_fd=at, dst_dir_fd=at)
    os.close(at)
PYTHON
}

# digests NAME FILES: its output becomes $tmp/NAME.sums, its peak of memory in KiB $tmp/NAME.peak. That is looked at
# while digest waits for room in its pipe for the last lines.
digests() {
    python3 - "$digest" "$tmp/$1" "$2" "$tmp/$1.sums" <<'PYTHON' >"$tmp/$1.peak"
import fcntl, os, re, subprocess, sys
program, tree, files, sums = sys.argv[1:]
process = subprocess.Popen([program, '-j', '4', tree], stdout=subprocess.PIPE)
pipe = process.stdout.fileno()
fcntl.fcntl(pipe, 1031, 4096) # F_SETPIPE_SZ: less than the last lines need
with open(sums, 'wb') as out:
    lines = 0
    while lines < int(files) - 150:
        data = os.read(pipe, 4096)
        lines += data.count(b'\n')
        out.write(data)
    status = open(f'/proc/{process.pid}/status').read()
    while data := os.read(pipe, 4096):
        out.write(data)
print(re.search(r'VmHWM:\s*(\d+) kB', status)[1])
sys.exit(process.wait())
PYTHON
}

lines_are_right() {
    find "$tmp/large" -type f | sort >"$tmp/paths"
    cut -c 67- "$tmp/large.sums" | cmp "$tmp/paths" - && [ "$(wc -l <"$tmp/paths")" = ${folders}000 ] &&
        awk 'NR % 97 == 0' "$tmp/large.sums" | sha256sum --quiet -c
}

# An eighth more, and 2 MiB: of that order it varies from run to run.
memory_is_the_same() {
    small=$(cat "$tmp/small.peak") large=$(cat "$tmp/large.peak")
    echo "peak over 10000 files: $small KiB, over ${folders}000 files: $large KiB"
    [ "$large" -le $((small + small / 8 + 2048)) ]
}

check trees eval 'tree small 10 && tree large $folders'
check digests_ten_thousand_files digests small 10000
check digests_a_million_files digests large ${folders}000
check lines_are_right lines_are_right
check memory_is_the_same memory_is_the_same
cat "$tmp/.output"
finish
