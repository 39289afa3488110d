"""Serves a codec of this environment to robustcodec as a black box. Put yours in the place of ``compress`` and
``decompress``; needs Python and numpy alone.

robustcodec check 'process:command=/path/of/this/environment/bin/python serve_numpy.py'
"""

import json
import os
import queue
import sys
import threading
import zlib

import numpy as np

ABOUT = {"name": "toy-means", "kind": "image", "multiple": [4, 4], "identity": f"numpy {np.__version__}"}


def compress(x):  # float32 (1, 3, H, W) in [0, 1] → bytes; a video codec's is (1, T, 3, H, W)
    means = x.reshape(3, x.shape[2] // 4, 4, x.shape[3] // 4, 4).mean((2, 4))
    return zlib.compress((24 * means).round().astype("u1").tobytes(), 9)


def decompress(data, shape):  # bytes, and the shape of what they decode to
    levels = np.frombuffer(zlib.decompress(data), "u1").reshape(1, 3, shape[2] // 4, shape[3] // 4)
    return (levels / np.float32(24)).repeat(4, 2).repeat(4, 3)


def answer(head, arrays):
    if head["op"] == "describe":
        return ABOUT, {}
    if head["op"] == "compress":
        return {}, {"stream": np.frombuffer(compress(arrays["x"]), "u1")}
    return {}, {"x_hat": decompress(arrays["stream"].tobytes(), head["shape"])}


def listen(stdin, requests):
    while line := stdin.readline():
        head = json.loads(line)
        arrays = [(e, np.frombuffer(stdin.read(e["bytes"]), e["dtype"])) for e in head["arrays"]]
        requests.put((head, {e["name"]: a.reshape(e["shape"]) for e, a in arrays}))
    os._exit(0)  # whoever asked has ended: so does this, whatever it is doing


def serve():
    answers, requests = os.fdopen(os.dup(1), "wb"), queue.Queue()
    os.dup2(2, 1)  # stdout is for answers alone: from now on, what is printed goes to stderr
    threading.Thread(target=listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    while True:
        head, arrays = requests.get()
        try:
            more, arrays = answer(head, arrays)
        except Exception as error:
            more, arrays = {"error": f"{type(error).__name__}: {error}"}, {}
        arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
        listed = [{"name": k, "dtype": str(a.dtype), "shape": a.shape, "bytes": a.nbytes} for k, a in arrays.items()]
        line = json.dumps({"robustcodec": 1, "id": head["id"], **more, "arrays": listed})
        answers.write(line.encode() + b"\n" + b"".join(a.tobytes() for a in arrays.values()))
        answers.flush()


if __name__ == "__main__":
    serve()
