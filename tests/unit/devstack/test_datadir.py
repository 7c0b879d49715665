from __future__ import annotations

import os
import stat

import pytest

from devstack.datadir import DataDir, holder_pid
from devstack.errors import StackError


def test_passwords_and_ports_are_remembered_and_private(tmp_path):
    first = DataDir(tmp_path)
    first.acquire()
    first.state.base_port = 12_000
    first.save()
    first.release()

    second = DataDir(tmp_path)
    second.acquire()

    assert second.state == first.state
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600
    second.release()


def test_every_folder_has_its_own_passwords(tmp_path):
    one, two = DataDir(tmp_path / "one"), DataDir(tmp_path / "two")
    assert one.state.postgres_password != two.state.postgres_password
    assert one.state.s3_secret_key != two.state.s3_secret_key


def test_a_folder_has_one_holder_at_a_time(tmp_path):
    holder = DataDir(tmp_path)
    holder.acquire()
    assert holder_pid(tmp_path) == os.getpid()
    with pytest.raises(StackError, match=f"pid {os.getpid()}"):
        DataDir(tmp_path).acquire()
    holder.release()
    assert holder_pid(tmp_path) is None


def test_a_lock_file_without_a_holder_holds_nothing(tmp_path):
    (tmp_path / "lock").write_text("4242")
    assert holder_pid(tmp_path) is None
    folder = DataDir(tmp_path)
    folder.acquire()
    folder.release()


def test_a_spoilt_state_is_never_replaced_silently(tmp_path):
    (tmp_path / "state.json").write_text("{")
    folder = DataDir(tmp_path)
    with pytest.raises(StackError, match="passwords of the data"):
        folder.acquire()
    folder.release()
