"""Where a model is to run."""

import torch

from clarity_cxr.errors import ClarityError


def usable_device(name: str) -> torch.device:
    """The device of that name, after a trial allocation.

    Args:
        name: as torch spells it: cpu, cuda, cuda:1, mps.

    Raises:
        ClarityError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ClarityError(f"device {name!r} is not usable here ({str(error).splitlines()[0]}); try cpu") from error
    return device
