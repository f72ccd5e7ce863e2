#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Prints a generated section of turnpike-tables(7) from the tables in include/tp/tbl: metrics, drops, errors, reasons."""
import os
import re
import sys
import textwrap

TBL = os.path.join(os.environ.get("top_srcdir", "."), "include", "tp", "tbl")
STRING = r'"(?:[^"\\]|\\.)*"'


def rows(name, macro):
    """The rows of one table: lists of arguments, strings joined and unquoted."""
    path = os.path.join(TBL, name)
    if not os.path.exists(path):
        return
    text = re.sub(r"/\*.*?\*/", "", open(path, encoding="utf-8").read(), flags=re.S)
    for m in re.finditer(r"^%s\(((?:%s|[^()\"])*)\)" % (macro, STRING), text, flags=re.M):
        parts = re.findall(r"(?:\s*%s)+|[^,\"]+" % STRING, m[1])
        row = []
        for p in parts:
            p = p.strip()
            if not p:
                continue
            strings = re.findall(STRING, p)
            row.append("".join(s[1:-1] for s in strings).replace('\\"', '"') if strings else p)
        yield row


def escape(text):
    return text.replace("\\", "\\e")


def say(text):
    """Text as mdoc input: a new line for each sentence, lines of 72 columns."""
    for sentence in re.split(r"(?<=[.])\s+(?=[A-Z])", text.strip()):
        for line in textwrap.wrap(escape(sentence), 72, break_long_words=False, break_on_hyphens=False):
            line = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", line)
            print(("\\&" if line[0] in ".'" else "") + line)


def end(text):
    return text if text.endswith(".") else text + "."


def metrics():
    families = {}
    for _, metric, labels, kind, help_text in rows("counters.def", "COUNTER"):
        families.setdefault(metric, (kind, help_text, []))[2].append(labels)
    print(".Bl -tag -width Ds")
    for metric in sorted(families):
        kind, help_text, labels = families[metric]
        print(".It Cm turnpike_%s%s Pq %s" % (metric, "_total" if kind == "C" else "", "counter" if kind == "C" else "gauge"))
        say(end(help_text))
        if any(labels):
            say("Labels: " + ", ".join(re.sub(r'"', "", x).replace(",", " ") for x in labels) + ".")
    print(".El")


def drops():
    print(".Bl -tag -width Ds")
    for _, label, help_text in rows("drops.def", "DROP"):
        if label != "none":
            print(".It Cm %s" % label)
            say(end(help_text))
    print(".El")


def errors():
    print(".Bl -tag -width Ds")
    for row in rows("errors.def", "ERROR"):
        print(".It %s %s" % (row[0], row[2]))
        if len(row) > 3:
            say(end(row[3]))
    print(".El")


def reasons():
    print(".Bl -tag -width Ds")
    for row in rows("reasons.def", "REASON"):
        print(".It Cm %s" % row[1])
        say(end(row[-1]))
    print(".El")


if __name__ == "__main__":
    {"metrics": metrics, "drops": drops, "errors": errors, "reasons": reasons}[sys.argv[1]]()
