"""Flags of a plan that do not go together."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRONG = {
  '--smallest_slice': '--largest_batch and --smallest_slice are plans of their own',
  '--remat': '--largest_batch and --remat are plans of their own',
  '--batch=64': 'give it without --batch=64',
}


@pytest.mark.parametrize('flag', WRONG)
def test_what_would_be_left_out_is_refused(flag):
  """One of two searches was made, and a batch was left out, without a word."""
  flags = ['--config=configs/glue.py:task=rte,tiny=true', '--topology=v5e:1x1', '--largest_batch']
  command = [sys.executable, '-m', 'experiments.plan', *flags, flag]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert done.returncode == 1 and WRONG[flag] in done.stderr, done.stderr
  assert done.stdout == ''  # No plan was made.
