"""Settings: the only reader of the environment.

`Settings.from_env(mapping)` builds one frozen tree and refuses what it cannot use, naming the variable
and the rule. Secrets are kept out of `repr`. docs/configuration.md is generated from `SETTINGS`.
"""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from app.errors import InvalidInputError

T = TypeVar("T")

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: how it is read and how it is documented."""

    name: str
    help: str
    parse: Callable[[str], Any] = str
    default: Any = None
    required: bool = False
    secret: bool = False


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        value = int(raw)
        if not low <= value <= high:
            raise ValueError(f"must lie between {low} and {high}")
        return value

    return parse


def _boolean(raw: str) -> bool:
    word = raw.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return word in _TRUE


def _choice(*words: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return raw

    return parse


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        for one in raw.split(","):
            if urlsplit(one.strip()).scheme not in schemes:
                raise ValueError(f"must start with {' or '.join(s + '://' for s in schemes)}")
        return raw

    return parse


def _urls(*schemes: str) -> Callable[[str], tuple[str, ...]]:
    one = _url(*schemes)
    return lambda raw: _words(one(raw))


def _trace_url(raw: str) -> str:
    """An address of web pages with `{trace_id}` once, behind the host."""
    parts = urlsplit(raw)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("must start with http:// or https:// and a host")
    if _TRACE_FIELD in parts.netloc or raw.count(_TRACE_FIELD) != 1:
        raise ValueError(f"must hold {_TRACE_FIELD} once, behind the host")
    if not raw.isprintable() or set(raw.replace(_TRACE_FIELD, "")) & set(" {}<>\"'\\`"):
        raise ValueError(f"must be a URL that holds no blanks, quotes or braces but those of {_TRACE_FIELD}")
    return raw


def _log_level(raw: str) -> str:
    return _choice("DEBUG", "INFO", "WARNING", "ERROR")({"WARN": "WARNING"}.get(raw.upper(), raw.upper()))


def _four_waits(raw: str) -> tuple[float, ...]:
    waits = tuple(float(word) for word in raw.split(","))
    if len(waits) != 4 or min(waits) <= 0:  # noqa: PLR2004 five attempts, four waits between them
        raise ValueError("must be four numbers of seconds above 0, separated by commas")
    return waits


def _words(raw: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in raw.split(",") if word.strip())


def _networks(raw: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(word, strict=False) for word in _words(raw))
    except ValueError:
        raise ValueError("must be IP addresses or networks like 10.0.0.0/8, separated by commas") from None


def hex_key(raw: str) -> str:
    """A key as it was given; raises ValueError that tells the rule and what is wrong, never the value."""
    digits = sum(one in string.hexdigits for one in raw)
    if len(raw) != _KEY_DIGITS or digits != _KEY_DIGITS:
        raise ValueError(
            f"must be exactly {_KEY_DIGITS} hexadecimal digits (256 bits, as `openssl rand -hex 32` makes "
            f"them); it has {len(raw)} characters, {digits} of them hexadecimal"
        )
    return raw


def _hex_keys(raw: str) -> tuple[str, ...]:
    return tuple(hex_key(word) for word in _words(raw))


_MIB = 1024 * 1024
_KEY_DIGITS = 64
_TRACE_FIELD = "{trace_id}"

SETTINGS: tuple[Variable, ...] = (
    Variable("DATABASE_URL", "Postgres, as a SQLAlchemy or libpq URL", _url("postgresql", "postgresql+psycopg2", "postgres"), required=True, secret=True),
    Variable("DB_MAX_CONNECTIONS", "most connections; several processes of gunicorn share them", _integer(1, 1000), 20),
    Variable("DB_MIN_CONNECTIONS", "connections kept open, however long they are idle; shared likewise", _integer(0, 1000), 2),
    Variable("DB_ACQUIRE_TIMEOUT_SECS", "wait for a free connection", _integer(1, 600), 30),
    Variable("DB_IDLE_TIMEOUT_SECS", "close a connection idle for so long", _integer(1, 86_400), 300),
    Variable("DB_MAX_LIFETIME_SECS", "recycle a connection after so long", _integer(1, 86_400), 1800),
    Variable("NATS_URL", "NATS server or comma-separated servers", _url("nats", "tls"), "nats://127.0.0.1:4222", secret=True),
    Variable("NATS_REPLICAS", "copies of every stream", _integer(1, 5), 1),
    Variable("NATS_TLS_CA_FILE", "PEM file of who signs the certificate of NATS; unset: whom the system trusts"),
    Variable("NATS_TLS_CERT_FILE", "PEM file of this client's certificate, for a NATS that asks for one"),
    Variable("NATS_TLS_KEY_FILE", "PEM file of its key; unset: it is in NATS_TLS_CERT_FILE"),
    Variable("NATS_CREDENTIALS_FILE", "file with this client's NATS credentials (.creds)"),
    Variable("NATS_MONITORING_URL", "monitoring page of NATS, or of several servers, separated by commas: how full JetStream's disk is", _urls("http", "https"), ()),
    Variable("QDRANT_URL", "Qdrant; port 6334 speaks gRPC, any other REST", _url("http", "https"), "http://127.0.0.1:6333"),
    Variable("QDRANT_API_KEY", "Qdrant's API key", secret=True),
    Variable("QDRANT_TIMEOUT_SECS", "limit of one Qdrant call", _integer(1, 600), 30),
    Variable("AWS_ENDPOINT_URL", "S3 server; empty for AWS itself", _url("http", "https")),
    Variable("AWS_REGION", "S3 region", str, "us-east-1"),
    Variable("AWS_ACCESS_KEY_ID", "S3 access key; empty for the machine's role", secret=True),
    Variable("AWS_SECRET_ACCESS_KEY", "S3 secret key", secret=True),
    Variable("S3_BUCKET_NAME", "the one bucket of this installation", str, "semantic-explorer"),
    Variable("S3_FORCE_PATH_STYLE", "bucket in the path instead of the host name", _boolean, True),
    Variable("TIKA_SERVER_ENDPOINT", "Apache Tika server", _url("http", "https"), "http://127.0.0.1:9998"),
    Variable("TIKA_TIMEOUT_SECS", "limit of one document in Tika", _integer(1, 3600), 120),
    Variable("MAX_FILE_SIZE_MB", "largest file accepted, MiB", _integer(1, 10_240), 100),
    Variable("S3_MAX_UPLOAD_SIZE_BYTES", "largest upload request", _integer(_MIB, 1 << 40), 1 << 30),
    Variable("HOSTNAME", "address that the web server binds", str, "127.0.0.1"),
    Variable("PORT", "port that the web server binds", _integer(0, 65_535), 8080),
    Variable("PUBLIC_URL", "how browsers reach this server", _url("http", "https")),
    Variable("WEB_CPU_AFFINITY", "each process of the web server keeps to one CPU (Linux): more small requests, less of what takes several", _boolean, False),
    Variable("SHUTDOWN_TIMEOUT_SECS", "grace of the web server on SIGTERM", _integer(1, 3600), 30),
    Variable("MAX_CONCURRENT_JOBS", "worker threads per process; 10, 10 and 3 by pool when unset", _integer(1, 1000)),
    Variable("PROCESSING_TIMEOUT_SECS", "limit of one visualization", _integer(1, 86_400), 3600),
    Variable("MAX_VISUALIZATION_POINTS", "largest map", _integer(10, 100_000_000), 1_000_000),
    Variable("HEALTH_CHECK_PORT", "worker health and metrics; 0 turns them off", _integer(0, 65_535), 0),
    Variable("HEALTH_CHECK_HOST", "address that the worker's health server binds", str, "127.0.0.1"),
    Variable("OIDC_ISSUER_URL", "identity provider; unset: single user, this machine only", _url("http", "https")),
    Variable("OIDC_CLIENT_ID", "this server's name at the identity provider"),
    Variable("OIDC_CLIENT_SECRET", "this server's secret there", secret=True),
    Variable("OIDC_SCOPES", "what is asked of the provider, separated by blanks", str, "openid profile email"),
    Variable("OIDC_AUDIENCE", "audience that access tokens of API clients must name; unset: only API tokens are taken"),
    Variable("OIDC_ROLE_CLAIM", "claim that holds viewer, operator or admin, alone or in a list"),
    Variable("OIDC_DEFAULT_ROLE", "role of whom the claim gives none", _choice("viewer", "operator", "admin"), "operator"),
    Variable("OIDC_SESSION_TIMEOUT_SECS", "a session ends so long after its sign-in", _integer(60, 2_592_000), 28_800),
    Variable("OIDC_INACTIVITY_TIMEOUT_SECS", "a session ends when unused for so long", _integer(60, 2_592_000), 1800),
    Variable("OIDC_MAX_CONCURRENT_SESSIONS", "sessions of one user; the oldest ends first", _integer(1, 1000), 5),
    Variable("TRUSTED_PROXIES", "addresses or networks whose X-Forwarded-For is believed, separated by commas", _networks, ()),
    Variable("RATE_LIMIT_USER", "requests per minute of one user, with sign-in; 0: no limit", _integer(0, 10_000_000), 1200),
    Variable("RATE_LIMIT_TOKEN", "the same of one token", _integer(0, 10_000_000), 1200),
    Variable("RATE_LIMIT_ADDRESS", "the same from one address (IPv6: one /64)", _integer(0, 10_000_000), 3000),
    Variable("RATE_LIMIT_SIGN_IN", "the same on the way in: sign-in, tokens and sessions", _integer(0, 10_000_000), 60),
    Variable("RATE_LIMIT_SEARCH", "requests per minute of one user that search or preview; they count for RATE_LIMIT_USER, too", _integer(0, 10_000_000), 300),
    Variable("RATE_LIMIT_UPLOAD", "the same that upload files or push items and vectors", _integer(0, 10_000_000), 1200),
    Variable("RATE_LIMIT_STREAM", "the same that open an event stream", _integer(0, 10_000_000), 120),
    Variable("ENCRYPTION_MASTER_KEY", "64 hex digits; seals provider keys and the audit log", hex_key, secret=True),
    Variable("ENCRYPTION_RETIRED_KEYS", "comma-separated keys that only open what they sealed: see secrets.md", _hex_keys, (), secret=True),
    Variable("OUTBOUND_ALLOWED_HOSTS", "private hosts or networks that providers may live on", _words, ()),
    Variable("PROVIDER_MAX_CONCURRENT_REQUESTS", "calls to one provider with one key at a time, by all processes; 0: no limit", _integer(0, 256), 0),
    Variable("PROVIDER_REQUESTS_PER_MINUTE", "the same per minute", _integer(0, 10_000_000), 0),
    Variable("PROVIDER_OPEN_SECS", "how long a provider that failed five times in a row is left alone at first", _integer(1, 300), 30),
    Variable("EMBEDDING_INFERENCE_API_URL", "embedding service of one's own: its models are listed, and embedders of provider internal ask it; may be private", _url("http", "https")),
    Variable("LLM_INFERENCE_API_URL", "the same of language models", _url("http", "https")),
    Variable("MODEL_CACHE_DIR", "the local embedder's compiled model", Path, Path(".data/models")),
    Variable("NUMBA_CACHE_DIR", "compiled map code, kept between processes", Path, Path(".data/numba")),
    Variable("SCRATCH_DIR", "temporary files of running jobs; empty for the system's", Path),
    Variable("EMBEDDING_THREADS", "CPU threads of the local embedder; 0 for all cores", _integer(0, 256), 0),
    Variable("RETRY_BACKOFF_SECS", "waits before the second to fifth attempt at a job", _four_waits, (30.0, 60.0, 120.0, 300.0)),
    Variable("RECONCILE_INTERVAL_SECS", "how often lost jobs are looked for; 0 turns it off", _integer(0, 86_400), 30),
    Variable("DLQ_UNDO_SECS", "how long the discard of a dead letter can be undone", _integer(0, 604_800), 900),
    Variable("DLQ_TWO_PERSON_ABOVE", "bulk jobs over more dead letters are started by a second person; 0: any by one", _integer(0, 1_000_000), 0),
    Variable("LOG_FORMAT", "json or text", _choice("json", "text"), "json"),
    Variable("LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR; INFO when neither this nor RUST_LOG says", _log_level),
    Variable("RUST_LOG", "log filter: a level and levels by part, as in `warn,semantic_explorer=info`", str, ""),
    Variable("OTEL_EXPORTER_OTLP_ENDPOINT", "traces go here; empty turns tracing off", _url("http", "https")),
    Variable("TRACE_URL_TEMPLATE", "where people look at a trace, as in `https://traces.example.com/trace/{trace_id}`; empty: its id is no link", _trace_url),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting by its variable's name in lower case, e.g. `settings.db_max_connections`."""

    values: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read all variables; raises InvalidInputError that names every variable that is wrong."""
        source = os.environ if environ is None else environ  # noqa: TID251 the one reader
        values: dict[str, Any] = {}
        wrong: list[str] = []
        for variable in SETTINGS:
            try:
                values[variable.name.lower()] = _read(variable, source.get(variable.name, ""))
            except ValueError as error:
                wrong.append(f"{variable.name} {error}")
        if wrong:
            raise InvalidInputError("cannot start: " + "; ".join(wrong))
        return cls(values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"no setting {name.upper()}") from None

    @property
    def database_url_psycopg2(self) -> str:
        """DATABASE_URL with SQLAlchemy's driver named, whichever spelling the operator used."""
        _, _, rest = str(self.database_url).partition("://")
        return f"postgresql+psycopg2://{rest}"

    @property
    def max_file_size_bytes(self) -> int:
        """MAX_FILE_SIZE_MB in bytes."""
        return int(self.max_file_size_mb) * _MIB


def _read(variable: Variable, raw: str) -> Any:
    if raw.strip():
        try:
            return variable.parse(raw.strip())
        except ValueError as error:
            detail = str(error) if not str(error).startswith("invalid literal") else "must be a whole number"
            raise ValueError(detail) from None
    if variable.required:
        raise ValueError("must be set")
    return variable.default
