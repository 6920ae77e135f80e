#!/usr/bin/env python3
"""Runs River, whylogs and Evidently on the streams of `detectors`; one JSON line a measurement (README.md).

    rivals.py STREAMS [--venvs target/watch-bench] [--what river,whylogs,evidently] [--seconds 2]

STREAMS is what `detectors --write-streams STREAMS` wrote. Needs only the standard library; each rival is a child
process in its own environment (setup.sh).
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CHANGE, REFERENCE, PATIENCE = 10_000, 5_000, 2_500
ROWS, COLUMNS = 10_000, 20          # the table whose rows are timed
CHILD_SECONDS = 1_200


def quantile(values, share):
    """With linear interpolation, as `detectors` has it."""
    if not values:
        return None
    values, at = sorted(values), share * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def tell(**line):
    print(json.dumps(line), flush=True)


def run_river(args):
    import river
    from river import drift
    from river.drift import binary
    makers = {"ADWIN": drift.ADWIN, "PageHinkley": drift.PageHinkley}
    of_errors = {"DDM": binary.DDM, "HDDM_A": binary.HDDMA}
    names = sorted({path.name.rsplit(".", 2)[0] for path in pathlib.Path(args.streams).glob("*.csv")})
    for name in names:
        files = sorted(pathlib.Path(args.streams).glob(name + ".*.csv"))
        streams = [[float(line) for line in path.read_text().split()] for path in files]
        has_change = "_none" not in name
        for detector, make in {**makers, **(of_errors if name.startswith("bern") else {})}.items():
            delays, missed, alarms, samples = [], 0, 0, 0
            for values in streams:
                one, found = make(), None
                steady = CHANGE if has_change else len(values)
                for at, value in enumerate(values[:steady + PATIENCE]):
                    one.update(value if detector in makers else bool(value))
                    if one.drift_detected:
                        if at >= steady:
                            found = at - steady + 1
                            break
                        alarms += at >= REFERENCE
                samples += steady - REFERENCE
                if has_change:
                    missed += found is None
                    delays += [found] if found else []
            tell(what="river", version=river.__version__, stream=name, detector=detector, seeds=len(streams),
                 delay=quantile(delays, .5), p95=quantile(delays, .95), missed=missed,
                 false_alarms=alarms * 1e5 / samples)
    values = [float(i % 10 == 0) for i in range(100_000)]
    for detector, make in {**makers, **of_errors}.items():
        data = values if detector in makers else [bool(value) for value in values]
        one, start = make(), time.process_time()
        for value in data:
            one.update(value)
        tell(what="river", version=river.__version__, detector=detector,
             us_per_sample=(time.process_time() - start) / len(data) * 1e6)


def table(seed):
    import numpy as np
    import pandas as pd
    values = np.random.default_rng(seed).normal(size=(ROWS, COLUMNS))
    return pd.DataFrame(values, columns=[f"c{i}" for i in range(COLUMNS)])


def timed(step, seconds):
    """Processor time of the fastest of at least three runs: other programs only make it longer."""
    best, runs, start = float("inf"), 0, time.perf_counter()
    while runs < 3 or time.perf_counter() - start < seconds:
        begin = time.process_time()
        step()
        best, runs = min(best, time.process_time() - begin), runs + 1
    return best


def run_whylogs(args):
    import whylogs as why
    from whylogs.core import DatasetProfile
    frame = table(1)
    rows = frame.head(1_000).to_dict("records")
    profile = DatasetProfile()
    track = timed(lambda: [profile.track(row=row) for row in rows], args.seconds) / len(rows)
    batch = timed(lambda: why.log(frame), args.seconds) / ROWS
    size = len(why.log(frame).view().serialize())
    for detector, seconds in (("track a row", track), ("log pandas", batch)):
        tell(what="whylogs", version=why.__version__, detector=detector, us_per_row=seconds * 1e6, columns=COLUMNS,
             bytes=size)


def run_evidently(args):
    import evidently
    from evidently import Report
    from evidently.presets import DataDriftPreset
    reference, current = table(1), table(2)
    seconds = timed(lambda: Report([DataDriftPreset()]).run(current, reference).dict(), args.seconds) / ROWS
    tell(what="evidently", version=evidently.__version__, detector="DataDriftPreset", us_per_row=seconds * 1e6,
         columns=COLUMNS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams")
    parser.add_argument("--venvs", default=str(ROOT / "target/watch-bench"))
    parser.add_argument("--what", default="river,whylogs,evidently")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--child", choices=("river", "whylogs", "evidently"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return {"river": run_river, "whylogs": run_whylogs, "evidently": run_evidently}[args.child](args)
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "WHYLOGS_NO_ANALYTICS": "True",
                  "DO_NOT_TRACK": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for what in args.what.split(","):
        command = [f"{args.venvs}/{what}/bin/python", str(HERE / "rivals.py"), args.streams, "--child", what,
                   "--seconds", str(args.seconds)]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=CHILD_SECONDS, env=one_thread)
        except (OSError, subprocess.TimeoutExpired) as cause:
            tell(what=what, error=str(cause))
            continue
        sys.stdout.write(done.stdout)
        sys.stdout.flush()
        if done.returncode:
            tell(what=what, error=f"ended with {done.returncode}")


if __name__ == "__main__":
    main()
