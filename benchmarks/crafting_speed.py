"""What a step of a gradient attack costs, against the naive loop, foolbox and torchattacks; is cheap as strong?

    python benchmarks/crafting_speed.py [--size 512x768] [--rounds 3] [--steps 20]
    python benchmarks/crafting_speed.py --codecs mbt2018-mean cheng2020-anchor rdae --size 256x256
    python benchmarks/crafting_speed.py --damage

Without ``--codecs``: ``bmshj2018-hyperprior`` at quality 3 with random weights, PGD at 40 dB. The *naive floor* is
one forward and one backward to the input of CompressAI's own unmodified ``g_a`` and ``g_s``. Peers get the same two
networks, wrapped as a classifier of two classes whose margin is damage, which is the least that a user of theirs can
run. Ours is ``pgd`` as ``robustcodec run`` executes it: registered attack, oracle, threat, frozen codec; its time per
step is the whole of ``--steps`` steps with the clean forward and with judging every tenth 8-bit clip by the codec that
rounds. With ``--codecs``: every family against a step of its own plain loop, which is a full forward of the network as
it is built, with gradients to its weights.

The allocator can be told only once per process, so there are two workers with one thread each, one with glibc's
defaults and one with ours (``robustcodec.execution.allocator``); the parent asks them in turn, row by row and round by
round.
Baselines run once untimed before they are timed, each time; ours does not.
Ratios are medians over rounds of ratios within a round, of CPU time: where nothing else runs it is the time that
passes, and elsewhere it is what the neighbours disturb least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

THREAT = "psnr:40"
CODEC = "bmshj2018-hyperprior"
PEER_STEPS = 2
FLOOR_STEPS = 3  # of the naive floor and of a plain loop in one measurement
PRECISIONS = ("float32", "bfloat16")
TRAINED = ("bmshj2018-factorized.tiny-q2", "bmshj2018-hyperprior.tiny-q2", "mbt2018-mean.tiny-q2", "rdae.tiny-q2")
Row = Callable[[], int]  # runs, and says how many steps that was


def picture(size: tuple[int, int], frames: int = 1) -> Any:
    """A smooth random clip ``(1, T, 3, H, W)``: a step costs the same whatever is in the picture."""
    import torch

    noise = torch.rand(frames, 3, *(s // 8 for s in size), generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, size, mode="bicubic").clamp(0, 1)[None]


def clip(codec: str, size: tuple[int, int]) -> Any:
    """What a codec is attacked on: a picture, or eight frames."""
    return picture(size, frames=8 if codec.startswith("rdae") else 1)


def own(name: str, precision: str, size: tuple[int, int], steps: int) -> Row:
    """PGD as the runner crafts."""
    from robustcodec import registry
    from robustcodec.interfaces import Draws
    from robustcodec.oracle import Oracle

    codec = registry.defenses.build("none").wrap(registry.codecs.build(name)).eval().requires_grad_(False)
    attack = registry.attacks.build(f"pgd:steps={steps}")
    objective, threat, x = registry.objectives.build("distortion"), registry.threats.build(THREAT), clip(name, size)

    def run() -> int:
        oracle = Oracle(codec, objective, x, "white", precision=precision)  # type: ignore[arg-type]
        attack.run(oracle, x.clone(), threat, Draws([0]))
        return steps

    return run


def floor(size: tuple[int, int]) -> Row:
    """One forward and backward to the input of CompressAI's transforms, frozen or not being the same."""
    import torch
    from compressai.zoo import bmshj2018_hyperprior

    net, x = bmshj2018_hyperprior(quality=3).eval(), picture(size)[:, 0]

    def run() -> int:
        for _ in range(FLOOR_STEPS):
            leaf = x.clone().requires_grad_(True)
            torch.autograd.grad((net.g_s(net.g_a(leaf)) - x).square().mean(), leaf)
        return FLOOR_STEPS

    return run


def peer(library: str, size: tuple[int, int]) -> Row:
    """L∞ PGD of another library on the same transforms, as a classifier of two classes."""
    import torch
    from compressai.zoo import bmshj2018_hyperprior
    from torch import Tensor, nn

    net, x = bmshj2018_hyperprior(quality=3).eval(), picture(size)[:, 0]
    with torch.no_grad():
        clean = net.g_s(net.g_a(x))

    class Classifier(nn.Module):
        """ "Fine" and "damaged": their margin is damage less 1e-3."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            margin = (self.net.g_s(self.net.g_a(x)) - clean).square().flatten(1).mean(1) - 1e-3
            return torch.stack([-margin, margin], 1)

    model, fine = Classifier().eval(), torch.zeros(1, dtype=torch.long)
    if library == "foolbox":
        from foolbox.attacks import LinfPGD
        from foolbox.models.pytorch import PyTorchModel

        wrapped, linf = PyTorchModel(model, bounds=(0, 1), device="cpu"), LinfPGD(steps=PEER_STEPS)
        return lambda: (linf.run(wrapped, x, fine, epsilon=8 / 255), PEER_STEPS)[1]
    import torchattacks

    pgd = torchattacks.PGD(model, eps=8 / 255, steps=PEER_STEPS)
    return lambda: (pgd(x, fine), PEER_STEPS)[1]


def plain(name: str, size: tuple[int, int]) -> Row:
    """One step of a plain loop: full forward of the family's network as it is built, all gradients."""
    import torch

    from robustcodec import registry

    x = clip(name, size)
    if name.startswith("rdae"):
        codec = registry.codecs.build(name).to(memory_format=torch.contiguous_format).requires_grad_(True)

        def forward(x: Any) -> Any:
            out = codec(x)
            return out.x_hat, out.bits
    else:
        from compressai.zoo import image_models

        family, quality = name.partition(":")[0], 3
        net = image_models[family](quality=quality).eval()

        def forward(x: Any) -> Any:
            out = net(x[:, 0])
            return out["x_hat"][:, None], out["likelihoods"]

    def run() -> int:
        for _ in range(FLOOR_STEPS):
            leaf = x.clone().requires_grad_(True)
            (forward(leaf)[0] - x).square().mean().backward()
            assert leaf.grad is not None
            (x + 0.01 * leaf.grad.sign()).clamp(0, 1)
        return FLOOR_STEPS

    return run


def random_codec(family: str) -> str:
    """The family's codec with random weights, as typed."""
    return f"{family}:config=tiny,weights=random" if family == "rdae" else f"{family}:quality=3,weights=random"


def row(kind: str, family: str, size: tuple[int, int], steps: int) -> Row:
    """What is timed under the name ``kind``."""
    if kind in PRECISIONS:
        return own(random_codec(family), kind, size, steps)
    if kind == "naive floor":
        return floor(size)
    return plain(random_codec(family), size) if kind == "plain loop" else peer(kind.split()[0], size)


def work() -> None:
    """A worker: builds the rows it is asked for and times them, a line of JSON per question."""
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows: dict[str, Row] = {}
    for line in sys.stdin:
        if line not in rows:
            kind, family, (height, width), steps = json.loads(line)
            rows[line] = row(kind, family, (height, width), steps)
        if json.loads(line)[0] not in PRECISIONS:
            rows[line]()  # a worker that has waited is slow at first: a baseline must not pay for that
        cpu, wall = time.process_time(), time.perf_counter()
        done = rows[line]()
        answer = (time.process_time() - cpu) / done, (time.perf_counter() - wall) / done
        print(json.dumps(answer), file=sys.stderr, flush=True)


class Worker:
    """A process that keeps its networks between questions; ``keep``: with our allocator settings."""

    def __init__(self, keep: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, "--worker"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"ROBUSTCODEC_KEEP_MEMORY": "1" if keep else "0", "OMP_NUM_THREADS": "1"},
        )

    def seconds(self, kind: str, family: str, size: tuple[int, int], steps: int) -> tuple[float, float]:
        """CPU and wall seconds per step of one row."""
        assert self._process.stdin is not None and self._process.stderr is not None
        print(json.dumps([kind, family, size, steps]), file=self._process.stdin, flush=True)
        said = []
        for line in self._process.stderr:
            if line.startswith("["):
                cpu, wall = json.loads(line)
                return cpu, wall
            said.append(line)
        raise SystemExit("".join(said))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(
    rows: list[tuple[str, str, str, bool]], size: tuple[int, int], rounds: int, steps: int
) -> dict[str, list[tuple[float, float]]]:
    """CPU and wall seconds of each row (label, kind, family, keep), round by round."""
    workers = {keep: Worker(keep) for keep in (False, True)}
    times: dict[str, list[tuple[float, float]]] = {label: [] for label, *_ in rows}
    try:
        for _ in range(rounds):
            for label, kind, family, keep in rows:
                times[label].append(workers[keep].seconds(kind, family, size, steps))
    finally:
        for worker in workers.values():
            worker.close()
    return times


def ratio(times: dict[str, list[tuple[float, float]]], row: str, to: str, clock: int = 0) -> float:
    """Median over rounds of one row's time over another's."""
    return statistics.median(a[clock] / b[clock] for a, b in zip(times[row], times[to], strict=True))


def table(times: dict[str, list[tuple[float, float]]], baselines: list[str]) -> None:
    """Markdown: seconds of each row and its ratio to each baseline, of CPU time; then of wall time in brackets."""
    print(f"| per step | CPU s | {' | '.join(f'÷ {b}' for b in baselines)} |")
    print(f"|---|---|{'---|' * len(baselines)}")
    for row in times:
        cells = [f"{ratio(times, row, b):.2f} ({ratio(times, row, b, clock=1):.2f})" for b in baselines]
        print(f"| {row} | {statistics.median(t[0] for t in times[row]):.3f} | {' | '.join(cells)} |")


def speed(size: tuple[int, int], rounds: int, steps: int) -> None:
    """The hyperprior against the naive floor and the peers."""
    kinds = ("naive floor", "foolbox LinfPGD", "torchattacks PGD")
    rows = [(f"{k}, {'kept' if keep else 'default'}", k, CODEC, keep) for k in kinds for keep in (False, True)]
    rows += [(f"own pgd, {p}", p, CODEC, True) for p in PRECISIONS]
    times = compare(rows, size, rounds, steps)
    table(times, ["naive floor, default", "naive floor, kept"])
    for p in PRECISIONS:
        faster = [
            f"{ratio(times, f'{k}, {a}', f'own pgd, {p}'):.1f} × as fast as {k} ({a})"
            for k in kinds[1:]
            for a in ("default", "kept")
        ]
        print(f"own pgd, {p}: {'; '.join(faster)}")


def families(names: list[str], size: tuple[int, int], rounds: int, steps: int) -> None:
    """Each family against its own plain loop."""
    for family in names:
        rows = [(f"{family}, plain loop, {'kept' if k else 'default'}", "plain loop", family, k) for k in (False, True)]
        rows += [(f"{family}, own pgd, {p}", p, family, True) for p in PRECISIONS]
        table(compare(rows, size, rounds, steps), [rows[0][0], rows[1][0]])
        print(flush=True)


def damage(codecs: list[str], samples: int, steps: int) -> None:
    """Amplification (``vi_db``) that PGD reaches in either precision, judged in float32 with rounding."""
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    warnings.simplefilter("ignore")
    import torch

    from robustcodec import load, registry
    from robustcodec.clips import to_float
    from robustcodec.interfaces import Draws
    from robustcodec.oracle import Oracle

    threat, objective = registry.threats.build(THREAT), registry.objectives.build("distortion")
    attack = registry.attacks.build(f"pgd:steps={steps}")
    print("| codec | vi_db, float32 | vi_db, bfloat16 | difference | largest of one sample |\n|---|---|---|---|---|")
    for name in codecs:
        codec = load(name).requires_grad_(False)
        data = "clips:frames=8,size=64" if codec.card.kind == "video" else "photos:size=128"
        found: dict[str, list[float]] = {p: [] for p in PRECISIONS}
        for seed, sample in enumerate(registry.data.build(data).samples()[:samples]):
            x = to_float(sample.load())[None]
            for p in PRECISIONS:
                oracle = Oracle(codec, objective, x, "white", precision=p)  # type: ignore[arg-type]
                x_adv = threat.quantise(threat.project(attack.run(oracle, x, threat, Draws([seed])), x), x)
                with torch.no_grad():
                    out = Oracle(codec, objective, x, "black")(x_adv)
                found[p].append(float(10 * torch.log10(out / (x_adv - x).square().mean())))
        pairs = list(zip(found["float32"], found["bfloat16"], strict=True))
        full, reduced = (statistics.mean(f) for f in found.values())
        worst = max((b - a for a, b in pairs), key=abs)
        print(f"| {name} | {full:.2f} | {reduced:.2f} | {reduced - full:+.2f} | {worst:+.2f} |", flush=True)


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="512x768", help="height x width")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--codecs", nargs="+", help="families to compare with their plain loops; with --damage: codecs")
    parser.add_argument("--damage", action="store_true", help="compare the damage of the two precisions")
    parser.add_argument("--samples", type=int, default=4, help="of --damage")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    height, width = map(int, given.size.split("x"))
    if given.worker:
        work()
    elif given.damage:
        damage(given.codecs or list(TRAINED), given.samples, given.steps)
    elif given.codecs:
        families(given.codecs, (height, width), given.rounds, given.steps)
    else:
        speed((height, width), given.rounds, given.steps)


if __name__ == "__main__":
    main()
