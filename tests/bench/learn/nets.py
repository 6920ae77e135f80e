"""The nine networks that gen_models.py exports, as PyTorch modules: name -> (module, input shape, loss)."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class CNN1D(nn.Module):
    def __init__(s, cin=3, ncls=6, w=(32, 64, 64)):
        super().__init__()
        L, c = [], cin
        for k in w:
            L += [nn.Conv1d(c, k, 5, padding=2, stride=1 if c == cin else 2), nn.BatchNorm1d(k), nn.ReLU()]
            c = k
        s.f, s.pool, s.head = nn.Sequential(*L), nn.AdaptiveAvgPool1d(1), nn.Linear(c, ncls)

    def forward(s, x):
        return s.head(s.pool(s.f(x)).flatten(1))


class Rnn(nn.Module):
    def __init__(s, kind, i=8, h=64, o=2):
        super().__init__()
        s.rnn, s.head = getattr(nn, kind)(i, h, batch_first=True), nn.Linear(h, o)

    def forward(s, x):
        y, _ = s.rnn(x)
        return s.head(y[:, -1])


class CNN2D(nn.Module):
    def __init__(s):
        super().__init__()
        s.c1, s.c2, s.p = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1), nn.MaxPool2d(2)
        s.f1, s.head = nn.Linear(16 * 49, 64), nn.Linear(64, 10)

    def forward(s, x):
        x = s.p(F.relu(s.c1(x)))
        x = s.p(F.relu(s.c2(x)))
        return s.head(F.relu(s.f1(x.flatten(1))))


class IR(nn.Module):
    def __init__(s, ci, co, st, t):
        super().__init__()
        h = ci * t
        s.res = st == 1 and ci == co
        s.b = nn.Sequential(nn.Conv2d(ci, h, 1, bias=False), nn.BatchNorm2d(h), nn.ReLU6(),
                            nn.Conv2d(h, h, 3, st, 1, groups=h, bias=False), nn.BatchNorm2d(h), nn.ReLU6(),
                            nn.Conv2d(h, co, 1, bias=False), nn.BatchNorm2d(co))

    def forward(s, x):
        return x + s.b(x) if s.res else s.b(x)


class MBV2(nn.Module):
    """MobileNetV2, width about 0.35, at 96x96."""

    def __init__(s, n=10):
        super().__init__()
        s.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        cfg = [(1, 8, 1, 1), (6, 8, 2, 2), (6, 16, 3, 2), (6, 24, 4, 2), (6, 32, 3, 1), (6, 56, 3, 2), (6, 112, 1, 1)]
        L, c = [], 16
        for t, o, k, st in cfg:
            for i in range(k):
                L.append(IR(c, o, st if i == 0 else 1, t))
                c = o
        s.f = nn.Sequential(*L)
        s.last = nn.Sequential(nn.Conv2d(c, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU6())
        s.head = nn.Linear(256, n)

    def forward(s, x):
        x = s.last(s.f(s.stem(x)))
        return s.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Tfm(nn.Module):
    def __init__(s, i=8, d=32, h=4, T=24, n=4):
        super().__init__()
        s.h, s.inp, s.pos = h, nn.Linear(i, d), nn.Parameter(torch.randn(1, T, d) * .02)
        s.qkv, s.o, s.l1, s.l2 = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.LayerNorm(d), nn.LayerNorm(d)
        s.m1, s.m2, s.head, s.d = nn.Linear(d, 4 * d), nn.Linear(4 * d, d), nn.Linear(d, n), d

    def forward(s, x):
        x = s.inp(x) + s.pos
        t, d = x.shape[1], s.d
        q, k, v = s.qkv(s.l1(x)).view(-1, t, 3, s.h, d // s.h).permute(2, 0, 3, 1, 4).unbind(0)
        a = torch.softmax(q @ k.transpose(-1, -2) * (d // s.h) ** -.5, -1)
        x = x + s.o((a @ v).transpose(1, 2).reshape(-1, t, d))
        x = x + s.m2(F.gelu(s.m1(s.l2(x))))
        return s.head(x.mean(1))


def mlp(*d):
    L = []
    for i in range(len(d) - 1):
        L.append(nn.Linear(d[i], d[i + 1]))
        if i < len(d) - 2:
            L.append(nn.ReLU())
    return nn.Sequential(*L)


def zoo():
    torch.manual_seed(0)
    return {"mlp_a": (mlp(16, 64, 64, 6), (16,), "ce"), "mlp_b": (mlp(128, 64, 6), (128,), "ce"),
            "cnn1d": (CNN1D(), (3, 128), "ce"), "lstm": (Rnn("LSTM"), (50, 8), "ce"), "gru": (Rnn("GRU"), (50, 8), "ce"),
            "cnn2d": (CNN2D(), (1, 28, 28), "ce"), "mbv2": (MBV2(), (3, 96, 96), "ce"),
            "ae": (mlp(32, 16, 8, 16, 32), (32,), "mse"), "tfm": (Tfm(), (24, 8), "ce")}
