"""Serves a codec of this environment to robustcodec. Put yours in the place of ``Toy``; needs Python and torch alone.

robustcodec check 'process:command=/path/of/this/environment/bin/python serve_torch.py'
"""

import ctypes
import hashlib
import json
import os
import queue
import sys
import threading
import zlib

import torch
import torch.nn.functional as F


class Toy(torch.nn.Module):
    """4×4 means in steps of 1/24, deflated."""

    about = {"name": "toy-means", "kind": "image", "forward": True, "gradient": True, "multiple": [4, 4]}
    about["rounding"] = ["frozen", "soft", "annealed"]  # what ``forward`` knows beside straight-through

    def analyse(self, x):  # (N, 3, H, W) in [0, 1]; a video codec's is (N, T, 3, H, W)
        return 24 * F.avg_pool2d(x, 4)

    def forward(self, x, anchor, surrogate, sharpness):  # → x_hat like x, and bits (N,)
        y = self.analyse(x)
        at = y.detach() if anchor is None else self.analyse(anchor)  # "frozen": round as there
        y_hat = y + (at.round() - at)
        if surrogate in ("soft", "annealed"):
            middle = y.detach().floor() + 0.5
            y_hat = middle + torch.tanh(sharpness * (y - middle)) / (2 * torch.tanh(torch.tensor(sharpness / 2)))
        true = torch.tensor([8.0 * len(self.write(q)) for q in at.round()])
        smooth, there = (torch.log2(1 + q.diff(dim=-1).square()).flatten(1).sum(1) for q in (y_hat, at.round()))
        return F.interpolate(y_hat / 24, scale_factor=4), true + smooth - there  # the true bits have no slope

    def write(self, q):
        return zlib.compress(raw(q.to(torch.uint8)), 9)

    def compress(self, x):  # (1, 3, H, W) → bytes
        return self.write(self.analyse(x).round())

    def decompress(self, data, shape):  # bytes, and the shape of what they decode to
        q = tensor(zlib.decompress(data), torch.uint8).view(1, 3, shape[-2] // 4, shape[-1] // 4)
        return F.interpolate(q.float() / 24, scale_factor=4)


def raw(t):
    t = t.detach().cpu().contiguous()
    return ctypes.string_at(t.data_ptr(), t.numel() * t.element_size())


def tensor(data, dtype):
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def answer(model, head, a):
    if head["op"] == "describe":
        weights = b"".join(map(raw, model.state_dict().values()))
        return {**model.about, "identity": f"{hashlib.sha256(weights).hexdigest()[:16]} torch {torch.__version__}"}, {}
    torch.manual_seed(head.get("seed", 0))
    if head["op"] == "compress":
        return {}, {"stream": tensor(model.compress(a["x"]), torch.uint8)}
    if head["op"] == "decompress":
        return {}, {"x_hat": model.decompress(raw(a["stream"]), head["shape"])}
    x = a["x"].requires_grad_(head["op"] == "gradient")
    x_hat, bits = model(x, a.get("anchor"), **head["rounding"])
    if head["op"] == "forward":
        return {}, {"x_hat": x_hat, "bits": bits}
    sides = [(out, a[name]) for out, name in ((x_hat, "grad_x_hat"), (bits, "grad_bits")) if name in a]
    return {}, {"grad": torch.autograd.grad([out for out, _ in sides], x, [slope for _, slope in sides])[0]}


def listen(stdin, requests):
    while line := stdin.readline():
        head = json.loads(line)
        arrays = [(e, tensor(stdin.read(e["bytes"]), getattr(torch, e["dtype"]))) for e in head["arrays"]]
        requests.put((head, {e["name"]: t.view(e["shape"]) for e, t in arrays}))
    os._exit(0)  # whoever asked has ended: so does this, whatever it is doing


def serve(model):
    answers, requests = os.fdopen(os.dup(1), "wb"), queue.Queue()
    os.dup2(2, 1)  # stdout is for answers alone: from now on, what is printed goes to stderr
    threading.Thread(target=listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    while True:
        head, arrays = requests.get()
        try:
            more, arrays = answer(model, head, arrays)
        except Exception as error:
            more, arrays = {"error": f"{type(error).__name__}: {error}"}, {}
        arrays = {name: (str(t.dtype)[6:], list(t.shape), raw(t)) for name, t in arrays.items()}
        listed = [{"name": k, "dtype": d, "shape": s, "bytes": len(data)} for k, (d, s, data) in arrays.items()]
        line = json.dumps({"robustcodec": 1, "id": head["id"], **more, "arrays": listed})
        answers.write(line.encode() + b"\n" + b"".join(data for _, _, data in arrays.values()))
        answers.flush()


if __name__ == "__main__":
    serve(Toy().eval().requires_grad_(False))
