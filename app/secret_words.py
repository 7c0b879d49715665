"""The names under which secrets are kept: one list for what is logged and for what people are shown."""

from __future__ import annotations

# A regular expression, without regard to case, without groups.
NAMES_OF_SECRETS = (
    r"pass(?:word|wd|phrase)|pwd|secret|token|(?:api|access|master|private)[_-]?key|authorization|"
    r"(?:set-)?cookie|credentials?|signature"
)
