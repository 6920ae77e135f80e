#!/usr/bin/env python3
"""Prints our detectors beside River's on the same streams, and our cost of a row as a ratio to whylogs and Evidently.

    compare.py [--detectors target/release/detectors] [--seeds 20] [--venvs target/watch-bench] [--streams DIR]

Runs `detectors` and `rivals.py`, both in this run. Exits with 1 when a ratio is below a hundred or something could not
be run. Needs `setup.sh`, and `cargo build --release --bin detectors`.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
GOAL = 100.0
OUR_ROW = "quality, histograms and CUSUMs"     # of the table `cost of a model`: what is compared


def ours(program, *flags):
    done = subprocess.run([program, "--json", *flags], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"`{program}` ended with {done.returncode}")
    return {table["name"]: table["rows"] for table in json.loads(done.stdout)["tables"]}


def number(value, digits=1):
    return "–" if value is None else f"{value:.{digits}f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectors", default="target/release/detectors")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--venvs", default="target/watch-bench")
    parser.add_argument("--streams", default="")
    parser.add_argument("--what", default="river,whylogs,evidently")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        streams = args.streams or folder
        subprocess.run([args.detectors, "--write-streams", streams, "--seeds", str(args.seeds)], check=True)
        mine = ours(args.detectors, "--seeds", str(args.seeds), "--months", "1")
        done = subprocess.run([sys.executable, str(HERE / "rivals.py"), streams, "--venvs", args.venvs, "--what", args.what],
                              stdout=subprocess.PIPE, text=True, check=True)
        again = ours(args.detectors, "--cost")      # the lower of both is told
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    missed = [f"{line['what']}: {line['error']}" for line in lines if "error" in line]
    print("| stream | detector | delay | p95 | missed | false alarms / 100k |\n|---|---|---|---|---|---|")
    for row in mine["delays"]:
        if not row["detector"].startswith("River"):
            print(f"| {row['stream']} | {row['detector']} | {number(row['median'])} | {number(row['p95'])} "
                  f"| {row['missed']:.0f} | {number(row['false alarms / 100k'], 2)} |")
    for row in mine["no change"]:
        if not row["detector"].startswith("River"):
            print(f"| {row['stream']} | {row['detector']} | | | | {number(row['false alarms / 100k'], 2)} |")
    for line in lines:
        if "stream" in line:
            print(f"| {line['stream']} | River {line['version']} {line['detector']} | {number(line['delay'])} "
                  f"| {number(line['p95'])} | {line['missed']} | {number(line['false_alarms'], 2)} |")
    print("\n| what | µs | ours µs | ratio |\n|---|---|---|---|")
    rows = [row for row in mine["cost of a model"] + again["cost of a model"] if row["what"] == OUR_ROW]
    row_us = min(row["ns / row"] for row in rows) / 1e3
    cost = mine["cost"] + again["cost"]
    adwin_us = min(row["ns / sample"] for row in cost if row["detector"] == "ADWIN") / 1e3
    for line in lines:
        name = f"{line['what']} {line.get('version', '')} {line.get('detector', '')}"
        if "us_per_row" in line:
            ratio = line["us_per_row"] / row_us
            print(f"| {name}, a row of {line['columns']} columns | {line['us_per_row']:.2f} | {row_us:.3f} | {ratio:.0f} |")
            if ratio < GOAL and line["detector"] != "log pandas":
                missed.append(f"{name}: {ratio:.0f} times ours, at least {GOAL:.0f}")
        elif "us_per_sample" in line:
            other = f"{adwin_us:.3f} | {line['us_per_sample'] / adwin_us:.1f}" if line["detector"] == "ADWIN" else "|"
            print(f"| {name}, a sample | {line['us_per_sample']:.3f} | {other} |")
    print("\nall ratios reached" if not missed else "\nmissed: " + ", ".join(missed))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
