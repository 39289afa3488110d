"""What a rehearsal of the device ``cuda`` finds: meetings of two devices, and values that the host asks for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from rehearsal import Fetched, Mixed, Rehearsal
from torch import Tensor, nn

ASKING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.sum()),
    "bool": lambda x: bool(x.sum() > 0),
    "all": lambda x: 1 if x.isfinite().all() else 0,
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "to another": lambda x: x.to(torch.zeros(3)),
    "copy_": lambda x: torch.zeros(2, 3).copy_(x),
    "equal": lambda x: torch.equal(x, x),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "mask": lambda x: x[x > 0],
    "masked values": lambda x: x.__setitem__(x > 0, x[0]),
    "unique": torch.unique,
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_a_value_on_the_host_is_refused(ask: Callable[[Tensor], object]) -> None:
    with Rehearsal():
        x = torch.ones(2, 3).to("cuda")
        with pytest.raises(Fetched, match=r"test_rehearsal.py:\d+ asks for"):
            ask(x)


def test_numpy_is_refused_too() -> None:
    with Rehearsal(), pytest.raises(TypeError, match="numpy"):
        torch.ones(2, device="cuda").numpy()


MIXING: dict[str, Callable[[Tensor, Tensor], object]] = {
    "sum": lambda x, y: x + y,
    "in place": lambda x, y: x.add_(y),
    "on the CPU": lambda x, y: y.add_(x),
    "cat": lambda x, y: torch.cat((x, y)),
    "where": lambda x, y: torch.where(y > 0, x, x),
    "put": lambda x, y: x.__setitem__(torch.tensor([0]), y[0]),
    "weights": lambda x, y: nn.Linear(3, 3)(x),
}


@pytest.mark.parametrize("mix", MIXING.values(), ids=MIXING)
def test_two_devices_do_not_meet(mix: Callable[[Tensor, Tensor], object]) -> None:
    with Rehearsal():
        x, y = torch.ones(2, 3).to("cuda"), torch.ones(2, 3)
        with pytest.raises(Mixed, match=r"on cuda.*on cpu|on cpu.*on cuda"):
            mix(x, y)


def test_what_a_gpu_does_without_waiting_is_free_and_uploads_are_counted() -> None:
    with Rehearsal() as rehearsal:
        x = torch.full((2, 3), 0.5, device="cuda", requires_grad=True)
        layer = nn.Linear(3, 4).to("cuda")
        before = rehearsal.uploads
        y = layer(x) * torch.tensor(2.0)  # a scalar of the CPU is an argument of a kernel
        y = y.masked_fill(y > 0, 1.0).where(y < 3, 0.0)
        (grad,) = torch.autograd.grad(y.square().sum(), x)
        grad[grad > 0] = 1.0
        grad[torch.arange(2, device=x.device)] += 1
        assert (grad.device, grad.is_cuda, grad.shape) == (torch.device("cuda:0"), True, (2, 3))
        assert torch.arange(3).tolist() == [0, 1, 2]  # what is not there has values
        assert rehearsal.uploads == before
        torch.tensor([1.0, 2.0], device=x.device)
        grad[torch.arange(2)] += 1
        assert rehearsal.uploads == before + 3  # a value to read and one to write
    assert (grad.device.type, torch.ones(1).is_cuda) == ("meta", False)


def test_who_is_stated_may_fetch_and_is_counted() -> None:
    with Rehearsal("test_rehearsal.py") as rehearsal:
        x = torch.ones(2, 3).to("cuda")
        assert not (x > 0).all()
        assert x[0].tolist() == [0.0, 0.0, 0.0]
        assert torch.equal(x, x)
        assert rehearsal.fetches == 3
