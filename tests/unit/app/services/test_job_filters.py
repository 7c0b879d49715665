from __future__ import annotations

from typing import Any, get_args

import pytest

from app.errors import InvalidInputError
from app.security.principal import Principal, Role
from app.services.job_filters import JobFilter, JobState, visible_to
from app.storage.postgres.tables import ACTIVE_STATES, FINAL_STATES


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("state", "asleep", "one of pending, running"),
        ("kind", "dance", "one of plan_collection_transform"),
        ("queue", "post-office", "one of collection-transforms"),
        ("scope_kind", "moon", "one of collection_transform"),
        ("job_id", "seven", "must be a UUID"),
        ("younger_than", -1.0, "between 0 and 1000000000"),
        ("older_than", float("nan"), "between 0 and 1000000000"),
    ],
)
def test_what_no_job_can_have_is_refused_with_field_and_rule(field: str, value: Any, rule: str):
    with pytest.raises(InvalidInputError, match=rule) as refused:
        JobFilter(**{field: value}).conditions()
    assert refused.value.field == field


def test_an_id_of_a_scope_needs_its_kind():
    with pytest.raises(InvalidInputError, match="ids of what") as refused:
        JobFilter(scope_id=1).conditions()
    assert refused.value.field == "scope_kind"
    assert len(JobFilter(scope_id=1, scope_kind="embedded_dataset").conditions()) == 2


def test_every_state_can_be_asked_for():
    assert set(get_args(JobState)) == {*ACTIVE_STATES, *FINAL_STATES}


@pytest.mark.parametrize(
    ("role", "narrowed"), [(Role.VIEWER, True), (Role.OPERATOR, True), (Role.ADMIN, False)]
)
def test_only_admins_see_what_others_own(role: Role, narrowed: bool):
    assert ("owner_id" in str(visible_to(Principal("ada", "Ada", role)))) is narrowed
