"""Makes `keras.npz`: layers of Keras as tf2onnx exports them, and what onnxruntime answers.

Needs tensorflow-cpu, tf2onnx and onnxruntime.
"""
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tf2onnx

from gen_ml import Archive

L = tf.keras.layers
rng = np.random.default_rng(0)
tf.random.set_seed(0)


def chain(shape, *layers):
    return tf.keras.Sequential([L.Input(shape), *layers]), [rng.normal(size=(4, *shape)).astype(np.float32)]


def attention():
    x = L.Input((10, 16))
    y = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(2, 8)(x, x)]))
    return tf.keras.Model(x, L.Dense(4)(L.GlobalAveragePooling1D()(y)))


def embedding():
    x = L.Input((6,), dtype="int32")
    return tf.keras.Model(x, L.Dense(3)(L.Flatten()(L.Embedding(50, 8)(x))))


def two():
    a, b = L.Input((4,)), L.Input((3,))
    return tf.keras.Model([a, b], L.Dense(2)(L.Concatenate()([a, b])))


def floats(*shape):
    return rng.normal(size=(4, *shape)).astype(np.float32)


MODELS = {
    "dense": chain((16,), L.Dense(32, "relu"), L.BatchNormalization(), L.Dropout(0.3), L.Dense(6, "softmax")),
    "conv2d": chain(
        (28, 28, 1),
        L.Conv2D(8, 3, activation="relu", padding="same"),
        L.MaxPooling2D(),
        L.Conv2D(16, 3, strides=2, padding="same"),
        L.BatchNormalization(),
        L.ReLU(6.0),
        L.Flatten(),
        L.Dense(10, "softmax"),
    ),
    "depthwise": chain(
        (32, 32, 3),
        L.Conv2D(8, 3, strides=2, padding="same"),
        L.DepthwiseConv2D(3, padding="same"),
        L.SeparableConv2D(16, 3, padding="same", activation="relu"),
        L.GlobalAveragePooling2D(),
        L.Dense(5, "softmax"),
    ),
    "conv1d": chain(
        (128, 3),
        L.Conv1D(16, 5, activation="relu"),
        L.MaxPooling1D(2),
        L.Conv1D(16, 3, padding="causal", dilation_rate=2, activation="elu"),
        L.GlobalMaxPooling1D(),
        L.Dense(4),
    ),
    "lstm": chain((20, 8), L.LSTM(16, return_sequences=True), L.LSTM(8), L.Dense(3, "softmax")),
    "bilstm": chain((20, 8), L.Bidirectional(L.LSTM(8)), L.Dense(2, "sigmoid")),
    "gru": chain((20, 8), L.GRU(16), L.Dense(3)),
    "rnn": chain((20, 8), L.SimpleRNN(8), L.Dense(1)),
    "up": chain(
        (8, 8, 4),
        L.UpSampling2D(2),
        L.Conv2DTranspose(3, 3, strides=2, padding="same"),
        L.AveragePooling2D(2),
        L.Cropping2D(1),
        L.ZeroPadding2D(2),
    ),
    "attention": (attention(), [floats(10, 16)]),
    "embedding": (embedding(), [rng.integers(0, 50, (4, 6)).astype(np.int32)]),
    "two": (two(), [floats(4), floats(3)]),
}

ACTIVATIONS = ["selu", "swish", "softplus", "softsign", "hard_sigmoid", "tanh", "elu", "exponential", "linear"]
for name in ACTIVATIONS:
    MODELS[name] = chain((12,), L.Dense(6, name), L.LayerNormalization(), L.LeakyReLU(), L.PReLU(), L.Dense(2))

archive = Archive()
for name, (model, inputs) in MODELS.items():
    given = [tf.TensorSpec((None, *x.shape[1:]), tf.as_dtype(x.dtype), name=f"in{at}") for at, x in enumerate(inputs)]

    @tf.function(input_signature=given)
    def call(*tensors):
        return model(list(tensors) if len(tensors) > 1 else tensors[0], training=False)

    proto, _ = tf2onnx.convert.from_function(call, input_signature=given, opset=15)
    archive.add(f"keras.{name}", proto, {f"in{at}": x for at, x in enumerate(inputs)})
archive.save("keras.npz")
print(archive.cases, archive.skipped)
