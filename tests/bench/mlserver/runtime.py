"""onnxruntime behind MLServer: no codec, no batching, one thread."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from mlserver.utils import get_model_uri

KINDS = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}
NAMES = {np.dtype(kind): name for name, kind in KINDS.items()}


class OnnxRuntime(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        uri = await get_model_uri(self._settings)
        self._session = onnxruntime.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {
            given.name: np.array(given.data.root, dtype=KINDS[given.datatype]).reshape(given.shape)
            for given in payload.inputs
        }
        made = self._session.run(None, feed)
        outputs = [
            ResponseOutput(name=name, shape=list(y.shape), datatype=NAMES[y.dtype], data=y.ravel().tolist())
            for name, y in zip(self._outputs, made)
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
