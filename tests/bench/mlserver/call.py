"""Times onnxruntime's own call on one thread: inputs on the first line, then a number of calls a line."""

import json
import sys
import time

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = {
    given["name"]: np.array(given["data"], dtype=np.float32).reshape(given["shape"])
    for given in json.loads(sys.stdin.readline())
}
clock = time.perf_counter_ns
for line in sys.stdin:
    for _ in range(20):
        session.run(None, feed)
    took = []
    for _ in range(int(line)):
        start = clock()
        session.run(None, feed)
        took.append(clock() - start)
    took.sort()
    print(json.dumps({"p50_us": took[len(took) // 2] / 1000}), flush=True)
