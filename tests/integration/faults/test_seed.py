"""One short seed of `make chaos` with the real processes."""

from __future__ import annotations

import os
import subprocess
import sys

from devstack.product import ROOT
from tests.chaos.faults import FAULTS, schedule


def test_a_seed_is_one_schedule_and_every_fault_comes_before_any_comes_again():
    assert schedule(7, 300) == schedule(7, 300) != schedule(8, 300)
    assert {one.fault for one in schedule(7, 300)[: len(FAULTS)]} == set(FAULTS)


def test_under_the_faults_of_a_seed_no_job_is_lost_and_none_done_twice():
    environment = os.environ | {"SEED": "1", "MINUTES": os.environ.get("CHAOS_MINUTES", "0.4")}  # noqa: TID251
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LOST: 0, DOUBLED WITH EFFECT: 0" in done.stdout
