#!/bin/sh
# The benchmark works: every row does a little and checks it, the twins know the same rows, and tools/bench measures, compares and
# draws what it is given. Nothing is timed here.
set -u
. "$WEIR_SRC/test/support/script.sh"

unset WEIR_PROCS
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$WEIR_SRC/bench"
# The builders take the library from the folder above the one that they build into.
out=$WEIR_BUILD/bench-test.$$
mkdir -p "$out"

build() { python3 -c "from suite import peers; print(peers.$1('$out')[0])"; }

weir_builds() { build weir && program=$out/bench-weir; }

rows_of() { "$1" 2>&1 | sed -n 's/^rows: //p'; }

# So little of each that the whole takes seconds. Those that need 100,000 goroutines and more are left out.
every_row_works() {
    for row in $(rows_of "$program"); do
        n=200
        case $row in
        yield-100k | yield-1m) continue ;;
        yield-10k) n=10000 ;;
        yield-1k | mutex-1000) n=1000 ;;
        skynet) n=100 ;;
        fib) n=10 ;;
        sleep-*) n=5 ;;
        prove-heap*) n=1 ;;
        esac
        for procs in 1 2; do
            WEIR_PROCS=$procs "$program" "$row" $n >"$tmp/figures" || { echo "$row $n on $procs: exit status $?"; return 1; }
            grep -q "^$row[a-z0-9-]* [0-9.]* [a-z]*$" "$tmp/figures" || { echo "$row prints:"; cat "$tmp/figures"; return 1; }
        done
    done
}

what_is_in_the_way_works() {
    build bare && bare=$out/bench-bare
    for row in $(rows_of "$bare"); do
        case " $(rows_of "$program") " in *" $row "*) ;; *) echo "weir has no row $row"; return 1 ;; esac
        for procs in 1 2; do
            BENCH_PROCS=$procs "$bare" "$row" 50 >"$tmp/figures" || { echo "$row on $procs: exit status $?"; return 1; }
            grep -q "^$row[a-z0-9-]* [0-9.]* [a-z]*$" "$tmp/figures" || { echo "$row prints:"; cat "$tmp/figures"; return 1; }
        done
    done
    [ -n "$row" ]
}

a_row_that_there_is_not_is_status_3() {
    "$program" no-such-row 1
    [ $? = 3 ]
}

a_check_that_fails_is_status_1_and_no_figure() {
    "$program" skynet 99 >"$tmp/figures" # is no power of ten
    [ $? = 1 ] && [ ! -s "$tmp/figures" ]
}

every_row_of_the_list_is_in_the_program() {
    rows_of "$program" | tr ' ' '\n' | sort >"$tmp/has"
    "$WEIR_SRC/tools/bench" --list | sort >"$tmp/list"
    [ -s "$tmp/list" ] && [ -z "$(comm -13 "$tmp/has" "$tmp/list")" ]
}

go_knows_the_same_rows() {
    build go && [ "$(rows_of "$out/bench-go")" = "$(rows_of "$program")" ]
}

# Of the sources, as their tools may not be here: a row that has another name there would be missing and nobody would see.
no_peer_has_a_row_of_its_own() {
    python3 - "$WEIR_SRC/bench" $(rows_of "$program") <<'END'
import glob, re, sys
known = {*sys.argv[2:], 'tokio', 'crossbeam', 'flume', 'kanal'}  # main.rs asks for the library in the same way
for pattern, row in (('boost/*.cpp', r'^    { "([^"]+)", '), ('st/*.c', r'^    { "([^"]+)", '), ('java/*.java', r'new Row\("([^"]+)"'),
                     ('rust/src/[!s]*.rs', r'^        "([^"]+)"(?: \| "[^"]+")* => [^\n]*\(row, n[,)]')):  # select.rs puts names together
    text = ''.join(open(path).read() for path in glob.glob(f'{sys.argv[1]}/{pattern}'))
    found = re.findall(row, text, re.M)
    assert len(found) >= 20, (pattern, found)
    assert set(found) <= known, (pattern, set(found) - known)
END
}

a_tool_that_is_missing_is_named() {
    python=$(command -v python3)
    PATH=$tmp/nowhere "$python" -c "
from suite import peers
try:
    peers.go('$out')
except peers.Missing as why:
    assert 'no go on the PATH' in str(why), why
else:
    raise AssertionError('go was found nowhere')"
}

# Programs that only say that they ran, print what they are told, and end as they are told.
pretend() {
    cat >"$tmp/$1" <<END
#!/bin/sh
echo "$1 \$2 \$BENCH_PROCS" >>"$tmp/log"
$2
END
    chmod +x "$tmp/$1"
}

measures() {
    python3 - "$tmp" <<'END'
import sys
from suite import measure, rows
tmp = sys.argv[1]
programs = {who: [f'{tmp}/{who}'] for who in ('weir', 'twice', 'other', 'broken')}
row, failures = rows.Row('a-row', 1000), []
result, = measure.run_row(programs, row, row.n, 2, 3, failures, lambda text: None)
with open(tmp + '/log') as f:
    log = f.read().split('\n')[:-1]
# One round that does not count, of a tenth; those without the row, or that fail, are not asked again.
assert log[:4] == ['weir 100 2', 'twice 100 2', 'other 100 2', 'broken 100 2'], log
assert log[4:] == ['weir 1000 2', 'twice 1000 2'] * 3, log
assert result['values'] == {'weir': [3.0] * 3, 'twice': [6.0] * 3}, result  # microseconds have become nanoseconds
assert result['ratio'] == {'twice': 0.5} and result['median'] == {'weir': 3.0, 'twice': 6.0}, result
assert len(failures) == 1 and failures[0].startswith('broken: a-row on 2: ended with 1: it broke'), failures
END
}

runs_take_turns_and_are_compared() {
    pretend weir 'echo a-row 3.00 ns'
    pretend twice 'echo a-row 0.006 us'
    pretend other 'exit 3'
    pretend broken 'echo it broke >&2; exit 1'
    measures
}

who_fails_leaves_a_curve_to_the_others() {
    pretend weir 'echo a-row 3.00 ns'
    pretend broken 'echo it broke >&2; exit 1'
    python3 - "$tmp" <<'END'
import sys
from suite import growth, rows
programs, failures = {who: [f'{sys.argv[1]}/{who}'] for who in ('broken', 'weir')}, []
values, units = growth.point(programs, rows.Row('a-row', 7), 7, 1, 2, failures)
assert values == {'a-row': {'weir': [3.0] * 2}} and units == {'a-row': 'ns'}, (values, units)
assert failures == ['broken: a-row with 7 on 1: ended with 1: it broke'], failures
END
}

who_is_slow_does_less_where_that_changes_nothing() {
    python3 - <<'END'
from suite import measure, rows
row, tree = rows.Row('a-row', 1000), rows.Row('a-tree', 1000, fixed=True)
tenfold = {'a-row': (measure.SLOW_S * 1e3 / 100, 'ms')}  # for one: ten times too long for 1000
assert measure.less(row, 1000, {'a-row': (measure.SLOW_S * 1e3 / 1000, 'ms')}) == 1000
assert measure.less(row, 1000, tenfold) == 100
assert measure.less(tree, 1000, tenfold) == 1000
END
}

the_chart_has_a_mark_for_each_ratio() {
    python3 - <<'END'
import xml.dom.minidom
from suite import chart, peers
who = [name for name in peers.PEERS if name != 'weir']
results = [{'row': row, 'procs': procs, 'ratio': {name: 10 ** (i - 4) for i, name in enumerate(who)}}
           for row in ('a', 'b<c') for procs in (1, 2)]
results.append({'row': 'nobody has it', 'procs': 1, 'ratio': {'go': None}})
drawn = xml.dom.minidom.parseString(chart.draw(results, who, {'cpu': 'x & y', 'cpus': 2, 'kernel': '6'}, False))
marks = drawn.getElementsByTagName('path')
assert len([mark for mark in marks if mark.getElementsByTagName('title')]) == 4 * len(who)
assert len(marks) == 4 * len(who) + len(who)  # the legend
assert 'nobody has it' not in drawn.toxml()
END
}

mistakes_are_told() {
    for wrong in '--rows nix' '--rows ,' '--peers nix' '--procs 0' '--rounds x' '--json /nowhere/x' '--growth --svg x' --nix nix; do
        timeout 60 "$WEIR_SRC/tools/bench" $wrong 2>"$tmp/err" && { echo "$wrong: was taken"; return 1; }
        grep -q '^bench: ' "$tmp/err" && grep -q '^usage: ' "$tmp/err" || { echo "$wrong:"; cat "$tmp/err"; return 1; }
    done
}

check bench_builds weir_builds
program=$out/bench-weir
check every_row_works every_row_works
check what_is_in_the_way_works what_is_in_the_way_works
check a_row_that_there_is_not_is_status_3 a_row_that_there_is_not_is_status_3
check a_check_that_fails_is_status_1_and_no_figure a_check_that_fails_is_status_1_and_no_figure
check every_row_of_the_list_is_in_the_program every_row_of_the_list_is_in_the_program
if [ "$(go version 2>/dev/null | sed 's/.*go1\.\([0-9]*\).*/\1/')" -ge 23 ] 2>/dev/null; then
    check go_knows_the_same_rows go_knows_the_same_rows
else
    skip go_knows_the_same_rows no go of 1.23 or newer on the PATH
fi
check no_peer_has_a_row_of_its_own no_peer_has_a_row_of_its_own
check a_tool_that_is_missing_is_named a_tool_that_is_missing_is_named
check runs_take_turns_and_are_compared runs_take_turns_and_are_compared
check who_fails_leaves_a_curve_to_the_others who_fails_leaves_a_curve_to_the_others
check who_is_slow_does_less_where_that_changes_nothing who_is_slow_does_less_where_that_changes_nothing
check the_chart_has_a_mark_for_each_ratio the_chart_has_a_mark_for_each_ratio
check mistakes_are_told mistakes_are_told
rm -rf "$out"
finish
