"""Batch statistics over processes: values, gradients and running statistics of the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from clarity_cxr.models.global_batch_norm import GlobalBatchNorm2d

SHARE = """
import sys, torch, torch.distributed as dist
from clarity_cxr.models.global_batch_norm import GlobalBatchNorm2d
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
whole, weights = torch.randn(6, 3, 4, 5) * 2 + 1, torch.randn(6, 3, 4, 5)
x = whole[rank * 3 : rank * 3 + 3].requires_grad_()
norm = GlobalBatchNorm2d(3).train()
y = norm(x)
(y * weights[rank * 3 : rank * 3 + 3]).sum().backward()
torch.save({"y": y.detach(), "grad": x.grad, "state": norm.state_dict()}, f"{sys.argv[1]}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_normalise_as_one(tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(SHARE)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launcher, str(script), str(tmp_path)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    torch.manual_seed(0)
    whole, weights = (torch.randn(6, 3, 4, 5) * 2 + 1).requires_grad_(), torch.randn(6, 3, 4, 5)
    reference = torch.nn.BatchNorm2d(3).train()
    expected = reference(whole)
    (expected * weights).sum().backward()
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), expected.detach())
    torch.testing.assert_close(torch.cat([part["grad"] for part in parts]), whole.grad)
    for part in parts:
        for name, value in reference.state_dict().items():
            torch.testing.assert_close(part["state"][name], value, msg=name)


def test_one_process_is_plain_batch_norm() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(GlobalBatchNorm2d(3).train()(x), torch.nn.BatchNorm2d(3).train()(x))
