from __future__ import annotations

import re

import pytest

from brokers import BrokerOptions
from brokers.jetstream.kv import bucket_configs, encode_key, ttl_header

TEXTS = [
    "plain-key_1", "a", "a@", "@a", "@", "a@b", "a@b@c", "a.b", "a b", "*", ">", "", "=", "==", "_", "=20",
    " ", "ümlaut", "a\r\nb", "\ud800", "x" * 200, "x" * 201, "y" * 5000, "a/b", "dramatiq-results:q:actor:id",
]  # fmt: skip
_LEGAL = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_becomes_a_legal_key_of_bounded_length(text: str) -> None:
    assert _LEGAL.fullmatch(encode_key(text))
    assert len(encode_key(text)) <= 401


def test_different_texts_become_different_keys() -> None:
    assert len({encode_key(text) for text in TEXTS}) == len(TEXTS)


def test_plain_keys_stay_readable_and_families_share_a_wildcard() -> None:
    assert encode_key("plain-key_1") == "plain-key_1"
    assert encode_key("my limit@1700000000") == "my=20limit.1700000000"


@pytest.mark.parametrize(("ttl_ms", "seconds"), [(0, 1), (1, 1), (1000, 1), (1001, 2), (600_000, 600)])
def test_a_ttl_is_rounded_up_to_whole_seconds(ttl_ms: int, seconds: int) -> None:
    assert ttl_header(ttl_ms) == {"Nats-TTL": f"{seconds}s"}


def test_buckets_are_laid_out_as_every_client_expects_them() -> None:
    results, limits = bucket_configs(BrokerOptions(replicas=3, results_max_age_seconds=60.0))
    assert (results.name, results.subjects) == ("KV_transforms_results", ["$KV.transforms_results.>"])
    assert (results.max_age, results.duplicate_window) == (60, 60)
    assert (limits.name, limits.max_age, limits.duplicate_window) == ("KV_transforms_limits", None, 120)
    for config in (results, limits):
        assert (config.max_msgs_per_subject, config.num_replicas, config.discard) == (1, 3, "new")
        assert (config.allow_msg_ttl, config.allow_direct, config.allow_rollup_hdrs) == (True, True, True)
