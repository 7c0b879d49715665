"""An operator, an account with JetStream, and its users, for a server that trusts what they sign."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

_LIMITS = {"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1}
_JETSTREAM = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
_USER = {"subs": -1, "data": -1, "payload": -1}


class Identity:
    """A key pair that signs what it vouches for."""

    def __init__(self, prefix: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), prefix).decode()

    @property
    def public(self) -> str:
        return bytes(self._pair().public_key).decode()

    def vouch(self, subject: str, kind: str, **claims: Any) -> str:
        now = int(time.time())
        body = {"jti": str(now), "iat": now, "iss": self.public, "sub": subject, "name": kind}
        body["nats"] = {"type": kind, "version": 2, **claims}
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        signed = ".".join(_encode(json.dumps(part).encode()) for part in (header, body))
        return f"{signed}.{_encode(self._pair().sign(signed.encode()))}"

    def _pair(self) -> Any:
        return nkeys.from_seed(bytearray(self.seed.encode()))


class OperatorMode:
    """A server's configuration that trusts a fresh operator, and credentials of a user whom that knows."""

    def __init__(self) -> None:
        self._operator = Identity(nkeys.PREFIX_BYTE_OPERATOR)
        self._account, system = (Identity(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(2))
        self._known = {
            self._account.public: self._vouch_for(self._account, _LIMITS | _JETSTREAM),
            system.public: self._vouch_for(system, _LIMITS),
        }
        self._system = system.public

    def _vouch_for(self, account: Identity, limits: dict[str, int]) -> str:
        return self._operator.vouch(account.public, "account", limits=limits)

    def configuration(self) -> str:
        operator = self._operator.vouch(self._operator.public, "operator", system_account=self._system)
        accounts = "\n".join(f"  {key}: {token}" for key, token in self._known.items())
        return (
            f"operator: {operator}\nsystem_account: {self._system}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{accounts}\n}}\n"
        )

    def credentials(self, path: Path) -> str:
        """Write the file of a new user of the account; its path."""
        user = Identity(nkeys.PREFIX_BYTE_USER)
        token = self._account.vouch(user.public, "user", **_USER)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return str(path)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
