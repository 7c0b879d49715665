"""A seed of `make chaos` with the real processes, and the driver against a product broken on purpose."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from devstack.product import ROOT
from tests.chaos.faults import FAULTS, possible, schedule


def test_a_seed_is_one_schedule_and_every_fault_comes_before_any_comes_again():
    assert schedule(7, 300) == schedule(7, 300) != schedule(8, 300)
    for clustered in (False, True):
        kinds = possible(clustered=clustered)
        planned = schedule(7, 300, clustered=clustered)
        assert {one.fault for one in planned[: len(kinds)]} == set(kinds)
        assert all(one.target in kinds[one.fault].targets for one in planned)


def test_each_fault_is_one_of_a_single_nats_server_or_of_three():
    alone, three = possible(clustered=False), possible(clustered=True)
    assert alone.keys() | three.keys() == FAULTS.keys()
    assert {name[:3] for name in alone.keys() ^ three.keys()} == {"F05", "F06", "F08"}
    assert not any("nats" in kind.targets for kind in three.values())


@pytest.mark.timeout(1260)  # five minutes of faults, at most ten where the machine is slow, and the way there
def test_under_the_faults_of_a_seed_no_job_is_lost_and_none_done_twice():
    minutes = os.environ.get("CHAOS_MINUTES", "5")  # noqa: TID251
    code, output = chaos(1200, SEED="3", MINUTES=minutes, HURRY="1")
    assert code == 0, output
    assert "LOST: 0, DOUBLED WITH EFFECT: 0" in output
    impossible = set(re.findall(r"(F\d\d) \([^)]*\) impossible", output))
    assert impossible <= ({"F17", "F18", "F21"} if os.geteuid() or not shutil.which("strace") else set())
    attempted = re.search(r"faults \d+ of (\d+)", output)
    assert attempted is not None
    assert int(attempted[1]) >= len(FAULTS), "this machine was too slow to inject every kind of fault"


@pytest.mark.timeout(480)
def test_a_product_that_plans_with_a_watermark_is_found_out():
    code, output = chaos(450, SEED="1", MINUTES="0", BROKEN="watermark")
    assert code == 1, output
    assert "LOST item without a final state in an embedded dataset" in output


def chaos(seconds: int, **settings: str) -> tuple[int, str]:
    """Exit code and output of the driver."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos"],
        cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=seconds, check=False,  # noqa: TID251
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
