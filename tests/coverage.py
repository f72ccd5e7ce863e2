#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Lines and branches that the tests of a build with --enable-coverage ran, for each room; `make coverage`.

usage: coverage.py BUILD SOURCE [--file PATTERN ...]    also prints each file of src whose path contains PATTERN
"""
import collections
import json
import os
import subprocess
import sys


def reports(build):
    """gcov's reports of every object that ran."""
    for where, _, names in os.walk(os.path.join(build, "src")):
        data = [os.path.join(where, n) for n in names if n.endswith(".gcda")]
        for i in range(0, len(data), 20):
            out = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities", *data[i:i + 20]],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=build, check=True, text=True).stdout
            for line in out.splitlines():
                if line.strip():
                    yield json.loads(line)


def collect(build, source):
    """{path below src: (lines, branches)}: how often each was run, over all objects that hold the file."""
    lines = collections.defaultdict(lambda: collections.defaultdict(int))
    branches = collections.defaultdict(lambda: collections.defaultdict(int))
    root = os.path.realpath(os.path.join(source, "src")) + os.sep
    for report in reports(build):
        for f in report["files"]:
            path = os.path.realpath(os.path.join(report["current_working_directory"], f["file"]))
            if not path.startswith(root):
                continue
            name = path[len(root):]
            for line in f["lines"]:
                n = line["line_number"]
                lines[name][n] += line["count"]
                for i, b in enumerate(line["branches"]):
                    branches[name][n, i] += b["count"]
    return {name: (lines[name], branches[name]) for name in lines}


def share(counts):
    counts = list(counts)
    return sum(c > 0 for c in counts), len(counts)


def row(name, lines, branches):
    (a, b), (c, d) = share(lines), share(branches)
    return "%-28s %6d of %6d lines %5.1f %%   %6d of %6d branches %5.1f %%" % (
        name, a, b, 100 * a / max(b, 1), c, d, 100 * c / max(d, 1))


def main():
    build, source, *rest = sys.argv[1:]
    wanted = [x for x in rest if x != "--file"]
    files = collect(build, source)
    if not files:
        sys.exit("coverage: no object of %s has run: configure with --enable-coverage, then make check" % build)
    rooms = collections.defaultdict(lambda: ([], []))
    for name, (lines, branches) in files.items():
        for key in (name.split("/")[0], "all"):
            rooms[key][0].extend(lines.values())
            rooms[key][1].extend(branches.values())
    for name in sorted(rooms, key=lambda r: (r == "all", r)):
        print(row(name, *rooms[name]))
    for name in sorted(files):
        if any(w in name for w in wanted):
            print(row(name, files[name][0].values(), files[name][1].values()))


if __name__ == "__main__":
    main()
