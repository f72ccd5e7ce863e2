#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Checks the models with Spin (Debian: spin).  Each must hold, and each must fail with the part left out that it is about.
set -eu
command -v spin >/dev/null || { echo "skipped: spin is not there"; exit 77; }
top=$(cd "${top_srcdir:-.}" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# check MODEL CLAIM yes|no [-DX ...]: exhaustive search, acceptance cycles for liveness.  PAN: flags of the verifier
check() {
	model=$1 claim=$2 want=$3
	shift 3
	spin "$@" -a "$top/tests/spin/$model.pml" >/dev/null
	# deadlock: assertions, and processes that wait without end
	if [ "$claim" = deadlock ]; then how= with=-DNOCLAIM; else how="${PAN:--a} -N $claim" with=; fi
	${CC:-cc} -O2 -w -DVECTORSZ=2048 -DNFAIR=5 -DCOLLAPSE $with -o pan pan.c
	./pan -m2000000 $how >out 2>&1 || true
	found=$(grep -o 'errors: [0-9]*' out | head -n 1)
	states=$(awk '/states, stored/ { print $1; exit }' out)
	grep -q 'search not completed\|max search depth too small' out && [ "$want" = yes ] && found="not completed"
	case "$want $found" in
	"yes errors: 0" | "no errors: "[1-9]*) echo "$model $claim $*: $found as expected, $states states" ;;
	*) cat out; echo "$model $claim $*: $found, not as expected"; exit 1 ;;
	esac
}
check redo counts yes
check redo deadlock yes
check redo counts no -DNO_REPLAY
check redo counts no -DNO_RECORD
check redo deadlock no -DNO_FREE
check owner one_writer yes
check owner deadlock yes
PAN="-a -f" check owner served yes
check owner one_writer no -DEARLY
