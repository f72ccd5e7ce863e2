#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make bench-record RUNS="a.md b.md": what runs of `make bench` (bench.py --out FILE.md) found, into doc/performance.md,
with plots in doc/plots.

  record.py [--doc FILE] [--plots DIR] [--draw-only] FILE.md...

The tables go between the two lines <!-- bench --> and <!-- /bench --> of the document, whatever stood there.  Of the relayed
packets three charts for each net are drawn by gnuplot (Debian package gnuplot-nox), with 120 bytes of payload:

  NET-over-flows.svg   packets per second and core over the number of flows, a panel for each R, a line for each server
  NET-over-run.svg     the same over R, a panel for each number of flows
  NET-forms.svg        200 flows over R, a panel for each direction: channels and indications, Turnpike and coturn"""
import argparse
import os
import re
import shutil
import subprocess
import sys

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
PAYLOAD = 120
COLOURS = {"turnpike": "#0060ad", "turnpike-gso": "#0060ad", "turnpike-mmsg": "#5aa0d8", "turnpike-plain": "#a8cfee",
           "forwarder": "#888888", "forwarder-gso": "#333333", "coturn": "#d62728"}
OTHERS = ("#2ca02c", "#9467bd", "#8c564b", "#e377c2")
YTICS = [("%d %s" % (n * m, unit), n * m * size) for unit, size in (("k", 1000), ("M", 1000000)) for m in (1, 10, 100) for n in (1, 2, 5)]
HEAD = """set terminal svg size {width},440 dynamic background "white" font "sans,12"
set output "{name}.svg"
set multiplot layout 1,{columns} title "{title}" font "sans,14"
set logscale xy
set grid ytics xtics lc rgb "#dddddd"
set ytics ({ytics})
set yrange [{low}:{high}]
set lmargin 9
set bmargin 4
set key off
"""
PANEL = """set title "{title}"
set xlabel "{label}"
set ylabel "{ylabel}"
set xtics ({tics})
set xrange [{low}:{high}]
plot {lines}
"""
KEY = """unset xtics
unset ytics
unset xlabel
unset ylabel
unset title
unset grid
unset border
set key at graph 0.95,0.95 right top Left reverse samplen 2 spacing 1.4
plot {lines}
unset multiplot
"""


# ---- the tables --------------------------------------------------------------------------------------------------

def read(paths):
    """{net: {(payload, flows, R, direction, mode): {server: CPU microseconds}}} of tables of relayed packets in Markdown
    files; rows of one net may be spread over several files."""
    found = {}
    for path in paths:
        net = names = None
        with open(path) as f:
            for line in f:
                cells = [c.strip() for c in line.strip().strip("|").split("|")]
                if line.startswith("#"):
                    net = line.rsplit(",", 1)[1].strip() if "Relayed packets, " in line else None
                elif net and cells[0] == "payload":
                    names = cells[5:]
                elif net and cells[0].isdigit():
                    row = (int(cells[0]), int(cells[1]), int(cells[2]), cells[3], cells[4])
                    values = {n: float(c.split()[0]) for n, c in zip(names, cells[5:]) if c != "-"}
                    found.setdefault(net, {}).setdefault(row, {}).update(values)
    return found


# ---- the charts --------------------------------------------------------------------------------------------------

def panels_over(rows, axis, of):
    """[(title, {server: [(x, packets per second and core)]})]: `axis` is the place of x in a row, `of` that of the panels."""
    panels = {}
    for row, values in rows.items():
        if row[0] == PAYLOAD and row[3:] == ("both", "channels"):
            for name, us in values.items():
                if us > 0:
                    panels.setdefault(row[of], {}).setdefault(name, []).append((row[axis], 1e6 / us))
    return [(("R = %d" if of == 2 else "1 flow" if k == 1 else "%d flows") % (() if of == 1 and k == 1 else k), panels[k])
            for k in sorted(panels)]


def panels_of_forms(rows):
    panels = {}
    for (payload, flows, run, direction, mode), values in rows.items():
        if payload == PAYLOAD and flows == 200:
            for name, us in values.items():
                if us > 0 and name in ("turnpike", "turnpike-gso", "coturn"):
                    panels.setdefault(direction, {}).setdefault("%s, %s" % (name, mode), []).append((run, 1e6 / us))
    titles = {"up": "client to peer", "down": "peer to client", "both": "both ways"}
    return [(titles[d], panels[d]) for d in ("up", "down", "both") if d in panels]


def style(name, names):
    """A colour for each server; indications are dashed."""
    server = name.split(",")[0]
    colour = COLOURS.get(server) or OTHERS[names.index(name) % len(OTHERS)]
    return 'lc rgb "%s" lw 2 pt 7 ps 0.6%s' % (colour, " dt 2" if name.endswith("indications") else "")


def chart(name, title, label, panels, folder):
    """The SVG, or where there is no gnuplot its script."""
    panels = [p for p in panels if any(len(points) > 1 for points in p[1].values())]
    if not panels:
        return None
    names = sorted({n for _, lines in panels for n in lines}, key=lambda n: (list(COLOURS) + [n]).index(n.split(",")[0]
                   if n.split(",")[0] in COLOURS else n))
    every = [y for _, lines in panels for points in lines.values() for _, y in points]
    text, plots = "", ""
    for i, (head, lines) in enumerate(panels):
        xs = sorted({x for points in lines.values() for x, _ in points})
        parts = []
        for k, n in enumerate(n for n in names if n in lines):
            text += "$p%d_%d << EOD\n%s\nEOD\n" % (i, k, "\n".join("%d %.0f" % p for p in sorted(lines[n])))
            parts.append("$p%d_%d with linespoints %s" % (i, k, style(n, names)))
        plots += PANEL.format(title=head, label=label, tics=", ".join(map(str, xs)), low=xs[0] / 1.3, high=xs[-1] * 1.3,
                              ylabel="" if i else "packets per second and core", lines=", ".join(parts))
    script = HEAD.format(ytics=", ".join('"%s" %d' % t for t in YTICS),
                         width=330 * len(panels) + 230, name=name, columns=len(panels) + 1, title=title, low=min(every) / 1.5,
                         high=max(every) * 1.5)
    keys = ", ".join('NaN with linespoints %s title "%s"' % (style(n, names), n) for n in names)
    whole = text + script + plots + KEY.format(lines=keys)
    if not shutil.which("gnuplot"):
        print("no gnuplot (Debian: gnuplot-nox): %s.gp is written, no SVG" % name, file=sys.stderr)
        with open(os.path.join(folder, name + ".gp"), "w") as f:
            f.write(whole)
        return None
    subprocess.run(["gnuplot"], cwd=folder, check=True, input=whole, text=True)
    return name + ".svg"


def draw(found, folder):
    """[(file, what it shows)]"""
    os.makedirs(folder, exist_ok=True)
    made = []
    for net, rows in found.items():
        where = {"lo": "loopback", "veth": "a veth pair"}.get(net, net)
        head = "%d bytes over %s" % (PAYLOAD, where)
        for name, what, label, panels in (
                ("over-flows", "both ways, channels, over the number of flows", "flows", panels_over(rows, 1, 2)),
                ("over-run", "both ways, channels, over R", "R: packets of one flow in a row", panels_over(rows, 2, 1)),
                ("forms", "200 flows: channels and indications", "R: packets of one flow in a row", panels_of_forms(rows))):
            svg = chart("%s-%s" % (net, name), "%s, %s" % (head, what), label, panels, folder)
            if svg:
                made.append((svg, "%s, %s" % (head, what)))
    return made


# ---- the document ----------------------------------------------------------------------------------------------------

def section(paths, made, plots_at):
    """The files one after the other, their headings two steps down, then the charts."""
    lines = []
    for path in paths:
        with open(path) as f:
            for line in f.read().strip().splitlines():
                if line == "# Bench":
                    continue
                line = re.sub(r" --(out|plots)[ =]\S+", "", line) if line.startswith("`") else line     # where it went
                lines.append("##" + line if line.startswith("#") else line)
        lines.append("")
    for svg, what in made:
        lines += ["![%s](%s/%s)" % (what, plots_at, svg), ""]
    return "\n".join(lines).strip()


def write(doc, text):
    with open(doc) as f:
        was = f.read()
    if was.count(BEGIN) != 1 or was.count(END) != 1:
        sys.exit("%s: no place for it: one line %s and one %s are wanted" % (doc, BEGIN, END))
    before, rest = was.split(BEGIN)
    with open(doc, "w") as f:
        f.write("%s%s\n\n%s\n\n%s%s" % (before, BEGIN, text, END, rest.split(END)[1]))


def main():
    top = os.path.abspath(os.environ.get("top_srcdir", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--doc", default=os.path.join(top, "doc", "performance.md"))
    p.add_argument("--plots", help="default: the folder plots beside the document")
    p.add_argument("--draw-only", action="store_true", help="the charts, and nothing into the document")
    p.add_argument("files", nargs="+", metavar="FILE.md")
    o = p.parse_args()
    folder = o.plots or os.path.join(os.path.dirname(os.path.abspath(o.doc)), "plots")
    made = draw(read(o.files), folder)
    for svg, what in made:
        print("%s: %s" % (os.path.join(folder, svg), what))
    if not o.draw_only:
        write(o.doc, section(o.files, made, os.path.relpath(folder, os.path.dirname(os.path.abspath(o.doc)))))


if __name__ == "__main__":
    main()
