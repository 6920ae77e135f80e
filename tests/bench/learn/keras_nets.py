#!/usr/bin/env python3
"""Writes small Keras networks as tf2onnx exports them: OUT/keras_NAME.onnx, and x, t in OUT/keras_NAME.data.npz.

    keras_nets.py OUT       (tensorflow, tf2onnx; gen_models.py calls it and makes the gradients)
"""
import os
import pathlib
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf
import tf2onnx

L = tf.keras.layers
rng = np.random.default_rng(4)
tf.keras.utils.set_random_seed(4)


def chain(shape, *layers, dtype="float32"):
    return tf.keras.Sequential([L.Input(shape, dtype=dtype), *layers])


def attention():
    x = L.Input((5, 6))
    y = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(2, 3)(x, x)]))
    return tf.keras.Model(x, L.Dense(3, "softmax")(L.GlobalAveragePooling1D()(y)))


NETS = {        # model, shape of a row, kind of targets
    "dense": (lambda: chain((6,), L.Dense(8, "relu"), L.BatchNormalization(), L.Dropout(.3), L.Dense(3, "softmax")), (6,), 3),
    "binary": (lambda: chain((6,), L.Dense(5, "tanh"), L.Dense(1, "sigmoid")), (6,), 2),
    "values": (lambda: chain((6,), L.Dense(5, "selu"), L.Dense(2)), (6,), 0),
    "conv2d": (lambda: chain((8, 8, 1), L.Conv2D(4, 3, padding="same"), L.BatchNormalization(), L.ReLU(6.), L.MaxPooling2D(), L.Conv2D(4, 3, strides=2, padding="same", activation="relu"), L.Flatten(), L.Dense(3, "softmax")), (8, 8, 1), 3),
    "separable": (lambda: chain((8, 8, 2), L.DepthwiseConv2D(3, padding="same"), L.SeparableConv2D(4, 3, padding="same", activation="swish"), L.BatchNormalization(), L.GlobalAveragePooling2D(), L.Dense(3, "softmax")), (8, 8, 2), 3),
    "conv1d": (lambda: chain((16, 3), L.Conv1D(4, 5, activation="relu"), L.MaxPooling1D(2), L.BatchNormalization(), L.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="elu"), L.GlobalMaxPooling1D(), L.Dense(3)), (16, 3), 3),
    "lstm": (lambda: chain((6, 3), L.LSTM(5, return_sequences=True), L.LSTM(4), L.Dense(3, "softmax")), (6, 3), 3),
    "bilstm": (lambda: chain((6, 3), L.Bidirectional(L.LSTM(4)), L.Dense(3, "softmax")), (6, 3), 3),
    "gru": (lambda: chain((6, 3), L.GRU(5), L.Dense(3)), (6, 3), 3),
    "attention": (attention, (5, 6), 3),
    "embedding": (lambda: chain((6,), L.Embedding(12, 4), L.LSTM(4), L.Dense(3, "softmax"), dtype="int32"), (6,), 3),
    "transposed": (lambda: chain((4, 4, 2), L.UpSampling2D(2), L.Conv2DTranspose(2, 3, strides=2, padding="same"), L.AveragePooling2D(2), L.LeakyReLU(), L.Flatten(), L.Dense(2)), (4, 4, 2), 0),
}


def main():
    out = pathlib.Path(sys.argv[1])
    for name, (make, shape, kind) in NETS.items():
        model = make()
        for w in model.weights:         # other than what they start as
            w.assign(w.numpy() + (rng.uniform(.05, .3, w.shape) if "variance" in w.name else rng.normal(size=w.shape) * .1).astype(w.numpy().dtype))
        x = rng.integers(0, 12, (6, *shape)).astype(np.int32) if name == "embedding" else rng.normal(size=(6, *shape)).astype(np.float32)
        signature = [tf.TensorSpec((None, *shape), tf.as_dtype(x.dtype), name="x")]
        try:
            call = tf.function(lambda v: model(v, training=False), input_signature=signature)
            proto, _ = tf2onnx.convert.from_function(call, input_signature=signature, opset=15)
        except Exception as e:
            print(f"keras_{name}: not exported: {type(e).__name__} {str(e)[:160]}")
            continue
        (out / f"keras_{name}.onnx").write_bytes(proto.SerializeToString())
        y = model(x, training=False).numpy()
        t = rng.integers(0, kind, len(x)) if kind else rng.normal(size=y.shape).astype(np.float32)
        np.savez(out / f"keras_{name}.data.npz", x=x, t=t, y=y)
        print(f"keras_{name}: " + " ".join(sorted({n.op_type for n in proto.graph.node})))


if __name__ == "__main__":
    main()
