"""What a new user tries first: an own network in the folder where the command is given."""

import subprocess
import sys
from pathlib import Path

CHIPFIT = Path(sys.executable).parent / "chipfit"
NETWORK = """
from torch import nn

def build():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    return net, (1, 3, 8, 8)
"""


def test_a_network_in_the_current_folder_is_found(tmp_path):
    (tmp_path / "own_network.py").write_text(NETWORK)
    command = [CHIPFIT, "simulate", "own_network:build", "--on", "tpu_v1", "--bits", "4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("own_network.build on tpu_v1, bits 4, batch 1: ")
