"""A stranger lifts the folder out: it needs nothing of this product, and its examples work as written."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dramatiq

from brokers import BrokerOptions, JetStreamBroker, JetStreamStubBroker, QueueSpec, dead_letter, recurring
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import message, wait_until

FOLDER = Path(__file__).parents[3] / "brokers"
EXAMPLES = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
MAIL = QueueSpec(name="mail", stream="MAIL", ack_wait_seconds=60)


def imported(path: Path) -> set[str]:
    """The packages that a file imports by its statements, without those of the standard library."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def test_the_folder_knows_dramatiq_nats_py_and_the_standard_library() -> None:
    assert set().union(*map(imported, FOLDER.rglob("*.py"))) == {"brokers", "dramatiq", "nats"}


def test_the_first_example_runs_in_a_folder_that_has_nothing_else(server: NatsServer, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "brokers", ignore=shutil.ignore_patterns("__pycache__"))
    program = EXAMPLES[0].replace("nats://127.0.0.1:4222", server.url)
    (tmp_path / "mails.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}  # noqa: TID251
    run = subprocess.run(
        [sys.executable, "mails.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    broker = JetStreamBroker(BrokerOptions(servers=server.url), [MAIL])
    assert broker.get_queue_message_counts("mail") == (1, 0, 0)
    command = [str(Path(sys.executable).with_name("dramatiq")), "mails", "--processes", "1", "--threads", "1"]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: broker.get_queue_message_counts("mail") == (0, 0, 0), 60, "the mail is sent")
    finally:
        worker.terminate()
        worker.wait(60)
        broker.close()


def job(address: str) -> None: ...


def test_what_the_readme_shows_of_messages_and_schedules_runs() -> None:
    broker = JetStreamStubBroker(BrokerOptions(), [MAIL])
    actors = {name: declare(broker, job, name) for name in ("send_mail", "ping", "report")}
    given = {"broker": broker, "ten_thousand": ["a@example.org"] * 10, "unix_ms": 4_102_444_800_000}
    exec(EXAMPLES[1], {**actors, **given})
    assert broker.get_queue_message_counts("mail") == (10 + 3, 0, 0)
    assert [one.name for one in recurring.schedules(broker, "mail")] == ["ping"]


def test_what_the_readme_shows_of_dead_letters_runs() -> None:
    broker = JetStreamStubBroker(BrokerOptions(), [MAIL])
    declare(broker, job, "send_mail")
    broker.enqueue_many(message("send_mail", queue="mail") for _ in range(9))
    consumer = broker.consume("mail", prefetch=9, timeout=1000)
    for _ in range(9):
        found = next(consumer)
        assert found is not None
        found.fail()
        consumer.nack(found)
    exec(EXAMPLES[2], {"broker": broker})
    ended = dead_letter.list_ended(broker)
    assert sorted((one.id, str(one.outcome)) for one in ended) == [(7, "replayed"), (8, "discarded")]


def declare(broker: JetStreamBroker, function: Callable[[str], None], name: str) -> Any:
    return dramatiq.actor(actor_name=name, queue_name="mail", broker=broker)(function)
