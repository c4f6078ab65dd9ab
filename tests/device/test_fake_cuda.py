"""The CUDA branches on tensors without values; `fake_cuda.py` says what that finds and what it does not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("fake_cuda.py")


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: `safmn gpu-check` tells more")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_nothing_waits_for_the_device_in_a_step_and_nothing_is_on_the_wrong_one() -> None:
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, SCRIPT], env=environment, capture_output=True, text=True, timeout=3600, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    steps = re.findall(r"^== ((?:TrainStep|CapturedStep|resume)[^\n]*)\n(.*?)^$", done.stdout, re.MULTILINE | re.DOTALL)
    assert len(steps) >= 18
    for title, found in steps:
        # A state comes from the host; nothing else may be copied, and nothing may wait.
        assert "WAIT" not in found, title
        assert "cuda->cpu" not in found, title
        assert "cpu->cuda" not in found, title
    assert "forbidden ones: none" in done.stdout
    # Kernels of a list of tensors, as Adam's, are one operation; tensor by tensor, a step would have thousands.
    (recorded,) = re.findall(r"while recording: (\d+) operations", done.stdout)
    assert int(recorded) < 600
