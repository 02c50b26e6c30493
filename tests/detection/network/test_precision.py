"""bfloat16 can be turned off for a whole process, so that results are those of a CPU without it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nni_hyperfd.detection.network import precision
from nni_hyperfd.detection.network.precision import SWITCH, cpu_autocast, has_fast_bfloat16


@pytest.mark.parametrize("hardware", [True, False])
@pytest.mark.parametrize("said", ["off", " OFF ", "on", "", None])
def test_the_environment_turns_bfloat16_off_and_never_on(
    hardware: bool, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_in_hardware", lambda: hardware)
    monkeypatch.delenv(SWITCH, raising=False)
    if said is not None:
        monkeypatch.setenv(SWITCH, said)
    wanted = hardware and (said or "").strip().lower() != "off"
    assert has_fast_bfloat16() is wanted
    with cpu_autocast():
        out = nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2))
    assert out.dtype == (torch.bfloat16 if wanted else torch.float32)
