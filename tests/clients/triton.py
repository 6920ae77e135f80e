"""tritonclient over HTTP and gRPC against a running agent; prints one line and exits 0, or fails.

Usage: triton.py HTTP_ADDRESS GRPC_ADDRESS MODEL KINDS
MODEL takes `features` [N, 16] FP32; KINDS gives back `i_NAME` [N, 2] as `o_NAME` for each datatype.
"""

import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

KINDS = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([[0, 255], [1, 2]], np.uint8),
    "UINT16": np.array([[0, 65535], [1, 2]], np.uint16),
    "UINT32": np.array([[0, 4294967295], [1, 2]], np.uint32),
    "UINT64": np.array([[0, 2**63], [1, 2]], np.uint64),
    "INT8": np.array([[-128, 127], [1, 2]], np.int8),
    "INT16": np.array([[-32768, 32767], [1, 2]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1], [1, 2]], np.int32),
    "INT64": np.array([[-(2**62), 2**62], [1, 2]], np.int64),
    "FP32": np.array([[-1.5, 3.25], [1, 2]], np.float32),
    "FP64": np.array([[-1.5, 1e300], [1, 2]], np.float64),
    "BYTES": np.array([["a", "Fußball"], ["", "c"]], object),
}


def drive(lib, client, model, kinds, binary):
    """Everything a client of either protocol does."""
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(model) and not client.is_model_ready("no-such-model")
    options = {} if lib is grpc else {"binary_data": binary}

    rows = np.linspace(0, 1, 48, dtype=np.float32).reshape(3, 16)
    given = lib.InferInput("features", rows.shape, "FP32")
    given.set_data_from_numpy(rows, **options)
    wanted = [lib.InferRequestedOutput("probabilities", **options)]
    result = client.infer(model, [given], outputs=wanted, request_id="mine")
    answer = result.get_response()
    scores = result.as_numpy("probabilities")
    assert scores.shape[0] == 3 and np.allclose(scores.sum(1), 1, atol=1e-5), scores
    if lib is grpc:
        assert answer.id == "mine" and answer.parameters["prediction_id"].string_param.startswith(model)
        version = answer.model_version
    else:
        assert answer["id"] == "mine" and answer["parameters"]["prediction_id"].startswith(model)
        version = answer["model_version"]
    again = client.infer(model, [given], model_version=version)
    assert np.array_equal(again.as_numpy("probabilities"), scores)

    inputs = []
    for name, values in KINDS.items():
        tensor = lib.InferInput(f"i_{name}", values.shape, name)
        tensor.set_data_from_numpy(values, **options)
        inputs.append(tensor)
    wanted = [lib.InferRequestedOutput(f"o_{name}", **options) for name in KINDS]
    result = client.infer(kinds, inputs, outputs=wanted)
    for name, values in KINDS.items():
        got = result.as_numpy(f"o_{name}")
        if name == "BYTES":
            got = np.array([[x.decode() if isinstance(x, bytes) else x for x in row] for row in got], object)
        assert np.array_equal(got, values), (name, got)

    try:
        wrong = lib.InferInput("features", [1, 3], "FP32")
        wrong.set_data_from_numpy(np.zeros((1, 3), np.float32), **options)
        client.infer(model, [wrong])
        raise AssertionError("a wrong shape was taken")
    except lib.InferenceServerException as refused:
        assert "expected shape [?, 16], got [1, 3]" in refused.message(), refused

    names = lambda index: sorted(m["name"] if isinstance(m, dict) else m.name for m in index)
    index = client.get_model_repository_index()
    assert names(index if lib is http else index.models) == sorted([model, kinds]), index
    client.unload_model(kinds)
    assert not client.is_model_ready(kinds)
    client.load_model(kinds)
    assert client.is_model_ready(kinds)
    return float(scores[0, 0])


def main():
    http_address, grpc_address, model, kinds = sys.argv[1:]
    client = http.InferenceServerClient(http_address)
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(model)["inputs"][0]["shape"] == [-1, 16]
    seen = {drive(http, client, model, kinds, binary) for binary in (True, False)}
    client = grpc.InferenceServerClient(grpc_address)
    assert client.get_model_metadata(model).inputs[0].shape == [-1, 16]
    seen.add(drive(grpc, client, model, kinds, True))
    assert len(seen) == 1, seen
    print("tritonclient: HTTP JSON, HTTP binary and gRPC agree")


main()
