"""What a process stands on: servers, the broker, jobs. Nothing connects before it is asked for something."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.config import Settings
from app.container.accounts import Accounts
from app.container.use_cases import Services
from app.events.bus import StatusBus
from app.jobs import queue_depths
from app.jobs.courtesy import Courtesy
from app.jobs.dispatch import Dispatcher
from app.jobs.letter_index import LetterIndex
from app.jobs.letters import LettersAndRows
from app.jobs.message_trace import MessageTrace
from app.jobs.outbox import Outbox
from app.jobs.policy import HUNG_GRACE_SECONDS, MAX_ATTEMPTS, Policies
from app.jobs.pools import POOLS
from app.jobs.reconcile import Reconciler
from app.jobs.sweeps import Sweeps
from app.observability import security_metrics, server_metrics
from app.observability.logging import fixed_fields, product_version
from app.observability.sampling import Sampler
from app.once import once
from app.pipeline.embedding import registry as embedding
from app.pipeline.embedding.base import Embedder, EmbedderSpec
from app.pipeline.extraction import tika_server
from app.pipeline.generation import registry as generation
from app.pipeline.generation.base import ChatModel, LanguageModelSpec
from app.pipeline.providers import Service
from app.security.certificates import of_postgres
from app.security.crypto import SecretBox
from app.security.outbound import OutboundClient, OutboundOptions
from app.services.ageing import Ageing
from app.services.audit import Audit
from app.services.audit_trail import AuditTrail
from app.services.bulk_runs import BulkRuns
from app.services.burial import Burial
from app.services.provider_circuits import CircuitOptions, ProviderCircuits
from app.services.provider_client import Fleet, ProviderClient
from app.services.rate_limits import RateLimits
from app.services.secrets import Secrets
from app.storage.postgres.schema import Schema
from app.storage.postgres.session import Database, DatabaseOptions
from app.storage.qdrant import VectorStore, VectorStoreOptions
from app.storage.s3 import BlobStore, BlobStoreOptions
from brokers import (
    BrokerOptions,
    Change,
    JetStreamBroker,
    JetStreamRateLimiterBackend,
    QueueSpec,
    inspect,
    topology,
)

if TYPE_CHECKING:
    from app.pipeline.projection.runner import ProjectionRunner

_CONNECTIONS = 100
_AGES_SECONDS = 300.0
_LIST_BYTES = 1024 * 1024


class Container:
    """Everything a process may need, each thing built on first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.policies = Policies(settings.processing_timeout_secs, settings.retry_backoff_secs)

    @once
    def database(self) -> Database:
        """Postgres."""
        return Database(
            DatabaseOptions(
                url=self.settings.database_url_psycopg2,
                max_connections=self.settings.db_max_connections,
                min_connections=self.settings.db_min_connections,
                acquire_timeout_seconds=self.settings.db_acquire_timeout_secs,
                idle_timeout_seconds=self.settings.db_idle_timeout_secs,
                max_lifetime_seconds=self.settings.db_max_lifetime_secs,
            ),
            self.audit.trail.listen,
            before=self.courtesy.give_way,
        )

    @once
    def courtesy(self) -> Courtesy:
        """The runs of this process, where it is a worker."""
        return Courtesy()

    @once
    def schema(self) -> Schema:
        """The tables, or those of another release."""
        return Schema(self.database)

    @once
    def blobs(self) -> BlobStore:
        """S3."""
        return BlobStore(
            BlobStoreOptions(
                bucket=self.settings.s3_bucket_name,
                endpoint_url=self.settings.aws_endpoint_url,
                region=self.settings.aws_region,
                access_key_id=self.settings.aws_access_key_id,
                secret_access_key=self.settings.aws_secret_access_key,
                force_path_style=self.settings.s3_force_path_style,
            )
        )

    @once
    def vectors(self) -> VectorStore:
        """Qdrant."""
        settings = self.settings
        return VectorStore(
            VectorStoreOptions(settings.qdrant_url, settings.qdrant_api_key, settings.qdrant_timeout_secs)
        )

    @once
    def broker(self) -> JetStreamBroker:
        """NATS JetStream; every process may send to every queue."""
        server_metrics.expect_queues(spec.name for spec in self.queue_specs)
        broker = JetStreamBroker(self.broker_options, self.queue_specs)
        broker.add_middleware(MessageTrace())
        return broker

    @once
    def broker_options(self) -> BrokerOptions:
        """What the deployment guide and docs/job-states.md fix about messages."""
        return BrokerOptions(
            servers=self.settings.nats_url,
            replicas=self.settings.nats_replicas,
            backoff_seconds=self.policies.backoff_seconds,
            max_attempts=MAX_ATTEMPTS,
            hung_grace_seconds=HUNG_GRACE_SECONDS,
            version=product_version(),
            tls_ca_file=self.settings.nats_tls_ca_file,
            tls_cert_file=self.settings.nats_tls_cert_file,
            tls_key_file=self.settings.nats_tls_key_file,
            credentials_file=self.settings.nats_credentials_file,
            on_event=server_metrics.broker_told,
            log_fields=fixed_fields(),
        )

    @property
    def queue_specs(self) -> list[QueueSpec]:
        """One queue per pool."""
        return [
            QueueSpec(name=pool.queue, stream=pool.stream, ack_wait_seconds=pool.ack_wait_seconds)
            for pool in POOLS.values()
        ]

    def apply_topology(self, *, dry_run: bool) -> list[Change]:
        """Create or update streams and consumers; returns what changed, or would."""
        return topology.apply(self.broker_options, self.queue_specs, dry_run=dry_run)

    @once
    def queue_numbers(self) -> Sampler:
        """Fills the gauges of streams and queues when somebody scrapes."""
        return Sampler(self._measure, server_metrics.forget_nats)

    @once
    def ages(self) -> Sampler:
        """Fills the gauges of certificates and key when somebody scrapes."""
        given = {"nats_ca": self.settings.nats_tls_ca_file, "nats_client": self.settings.nats_tls_cert_file}
        files = {use: Path(file) for use, file in given.items() if file}
        ageing = Ageing(
            self.database, self.secrets.keyring, files | of_postgres(str(self.settings.database_url))
        )
        return Sampler(ageing.measure, security_metrics.forget_key_age, every_seconds=_AGES_SECONDS)

    def refresh_numbers(self) -> None:
        """Before a scrape: what must be asked for."""
        self.queue_numbers.refresh()
        self.ages.refresh()

    @once
    def feed(self) -> StatusBus:
        """The status stream."""
        return StatusBus(self.broker)

    @once
    def dispatcher(self) -> Dispatcher:
        """Sends job rows as messages."""
        return Dispatcher(self.broker, self.database)

    @once
    def outbox(self) -> Outbox:
        """Records jobs."""
        return Outbox(self.dispatcher)

    @once
    def reconciler(self) -> Reconciler:
        """Finds lost jobs."""
        return Reconciler(self.database, self.dispatcher, policies=self.policies)

    @once
    def sweeps(self) -> Sweeps:
        """Finds what lost its job or its row."""
        return Sweeps(
            self.database,
            self.outbox,
            self.blobs,
            self.vectors,
            self.letters,
            repair_index=lambda dry_run: self.services.letter_ends.repair(dry_run=dry_run),
        )

    @once
    def letters(self) -> LettersAndRows:
        """Compares dead letters with jobs."""
        return LettersAndRows(self.database, self.broker, Burial(self.services.jobs, self.feed))

    @once
    def letter_index(self) -> LetterIndex:
        """Rows for dead letters."""
        return LetterIndex(self.database, self.broker)

    @once
    def bulk_runs(self) -> BulkRuns:
        """Works off bulk jobs over dead letters."""
        return BulkRuns(
            self.database,
            self.audit.trail,
            self.broker,
            self.services.letter_ends,
            undo_period=timedelta(seconds=self.settings.dlq_undo_secs),
            max_replays=self.broker_options.max_replays,
            worker=f"{socket.gethostname()}:{os.getpid()}",
        )

    @once
    def http(self) -> ProviderClient:
        """The one client for addresses that users name."""
        return self._provider_client(self.settings.outbound_allowed_hosts)

    @once
    def inference_http(self) -> ProviderClient:
        """Asks the operator's inference services, which may be private; nobody else's address is."""
        return self._provider_client(self._inference_hosts)

    def _provider_client(self, hosts: tuple[str, ...]) -> ProviderClient:
        fleet = Fleet(
            self.provider_circuits,
            self.rate_limits,
            lambda: self.provider_slots,
            most_at_once=self.settings.provider_max_concurrent_requests,
            per_minute=self.settings.provider_requests_per_minute,
        )
        # An answer in a chat holds a connection for as long as it is written: searches need others
        options = OutboundOptions(
            allowed_hosts=hosts, max_connections=_CONNECTIONS, on_refusal=security_metrics.call_refused
        )
        return ProviderClient(options, fleet)

    def open_embedder(self, spec: EmbedderSpec) -> Embedder:
        """A client of an embedder; raises InvalidInputError."""
        url, threads = self.settings.embedding_inference_api_url, self.settings.embedding_threads or None
        service = Service(url, self.inference_http) if url else None
        return embedding.build(
            spec, self.http, cache_dir=self.settings.model_cache_dir, threads=threads, service=service
        )

    def open_llm(self, spec: LanguageModelSpec) -> ChatModel:
        """A client of a language model; raises InvalidInputError."""
        url = self.settings.llm_inference_api_url
        service = Service(url, self.inference_http) if url else None
        return generation.build(spec, self.http, service=service)

    @once
    def provider_circuits(self) -> ProviderCircuits:
        """Which providers are not called just now; all processes together."""
        first = float(self.settings.provider_open_secs)
        return ProviderCircuits(self.database, CircuitOptions(first_open_seconds=first))

    @once
    def provider_slots(self) -> JetStreamRateLimiterBackend:
        """Counts calls under way, over a connection of its own: its failures are not those of messages."""
        return JetStreamRateLimiterBackend(self.broker_options)

    @once
    def own_http(self) -> OutboundClient:
        """Calls the operator's inference services, which may be private: they are allowed by being named."""
        options = OutboundOptions(allowed_hosts=self._inference_hosts, max_response_bytes=_LIST_BYTES)
        return OutboundClient(options)

    @property
    def _inference_hosts(self) -> tuple[str, ...]:
        urls = (self.settings.embedding_inference_api_url, self.settings.llm_inference_api_url)
        return tuple(urlsplit(url).netloc for url in urls if url)

    @once
    def secrets(self) -> SecretBox:
        """Seals the keys of providers."""
        return SecretBox(self.settings.encryption_master_key, self.settings.encryption_retired_keys)

    @once
    def all_secrets(self) -> Secrets:
        """Every secret at rest, for operators."""
        return Secrets(self.database, self.secrets, self.audit.trail)

    @once
    def audit(self) -> Audit:
        """Who did what; its trail is written with every commit."""
        return Audit(lambda: self.database, AuditTrail(self.secrets.keyring))

    @once
    def projection_runner(self) -> ProjectionRunner:
        """Computes maps in a child process that is kept warm."""
        from app.pipeline.projection.runner import ProjectionRunner

        return ProjectionRunner(self.settings.numba_cache_dir, self.settings.processing_timeout_secs)

    @once
    def accounts(self) -> Accounts:
        """Who asks."""
        return Accounts(self.settings, self.database, self.secrets, self.audit.trail)

    @once
    def rate_limits(self) -> RateLimits:
        """Counts requests; all replicas together."""
        return RateLimits(self.database)

    @once
    def services(self) -> Services:
        """The use cases."""
        return Services(self)

    def _measure(self) -> None:
        self.provider_circuits.measure()
        queue_depths.measure(self.broker, self.settings.nats_monitoring_url)

    @property
    def health_checks(self) -> Mapping[str, Callable[[], object]]:
        """What readiness asks; each raises when its server does not answer."""
        return {
            "postgres": self.database.ping,
            "schema": self.schema.check,
            "qdrant": self.vectors.ping,
            "s3": self.blobs.ping,
            "nats": lambda: inspect.probe(self.broker),
            "tika": lambda: tika_server.ping(self.settings.tika_server_endpoint),
        }

    def close(self) -> None:
        """Give back what this process holds; only what was built is closed."""
        built = vars(self)
        for name in (
            "feed",
            "vectors",
            "database",
            "projection_runner",
            "http",
            "inference_http",
            "own_http",
            "provider_slots",
            "accounts",
        ):
            if name in built:
                built[name].close()


def build(settings: Settings) -> Container:
    """The container of this process."""
    return Container(settings)
