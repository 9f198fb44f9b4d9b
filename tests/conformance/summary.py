"""Sums up a report of the Autobahn suite by group; fails when a case fails that is not allowed to."""

import json
import sys
from collections import Counter, defaultdict

GROUPS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "close handshake",
    "9": "limits and performance",
    "10": "automatic fragmentation",
    "12": "compression, messages",
    "13": "compression, parameters",
}
CASES = 517
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
# There are no extensions (proto-docs/protocol.md), so compression is never negotiated.
UNIMPLEMENTED = {"12", "13"}


def allowed(group, verdict):
    return verdict in GOOD or (verdict == "UNIMPLEMENTED" and group in UNIMPLEMENTED)


def main(path):
    with open(path, encoding="utf-8") as report:
        [cases] = json.load(report).values()
    groups, listed, failed = defaultdict(Counter), [], []
    for case, result in cases.items():
        group = case.split(".")[0]
        verdicts = (result["behavior"], result["behaviorClose"])
        groups[group][verdicts[0]] += 1
        if not all(allowed(group, verdict) for verdict in verdicts):
            failed.append((case, verdicts))
        elif verdicts != ("OK", "OK") and group not in UNIMPLEMENTED:
            listed.append((case, verdicts))
    print("| group | cases | verdicts |\n|---|---|---|")
    for group in sorted(groups, key=int):
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(groups[group].items()))
        print(f"| {group} {GROUPS.get(group, '?')} | {sum(groups[group].values())} | {verdicts} |")
    for case, verdicts in listed:
        print(f"{case}: {verdicts[0]}, closing {verdicts[1]}")
    for case, verdicts in failed:
        print(f"FAILED {case}: {verdicts[0]}, closing {verdicts[1]}")
    if len(cases) != CASES:
        sys.exit(f"{len(cases)} cases were run instead of {CASES}")
    sys.exit(1 if failed else 0)


main(sys.argv[1])
