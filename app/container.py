"""The only place that builds concrete things, from settings to services. Nothing connects here.

Heavy libraries are imported when a stage is first used, so a web process never loads UMAP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from app.accounts import Accounts
from app.config import Settings
from app.events.bus import StatusBus
from app.jobs.dispatch import Dispatcher
from app.jobs.letters import LettersAndRows
from app.jobs.outbox import Outbox
from app.jobs.policy import HUNG_GRACE_SECONDS, MAX_ATTEMPTS, Policies
from app.jobs.pools import POOLS
from app.jobs.reconcile import Reconciler
from app.jobs.sweeps import Sweeps
from app.once import once
from app.pipeline.chunking import registry as chunkers
from app.pipeline.chunking.wordpiece import count_tokens
from app.pipeline.document import Document
from app.pipeline.embedding import registry as embedding
from app.pipeline.extraction import registry as extractors
from app.pipeline.extraction import tika_server
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.config import parse_extraction_config
from app.pipeline.extraction.context import ExtractionContext, ExtractionLimits
from app.pipeline.generation import registry as generation
from app.pipeline.projection import arrow
from app.pipeline.projection.config import check_config
from app.security.crypto import SecretBox
from app.security.outbound import OutboundClient, OutboundOptions
from app.services.audit import Audit
from app.services.audit_trail import AuditTrail
from app.services.burial import Burial
from app.services.cancelling import Cancelling
from app.services.collection_transforms import CollectionTransforms
from app.services.collections import Collections
from app.services.dataset_transforms import DatasetTransforms
from app.services.datasets import Datasets
from app.services.embedded_datasets import EmbeddedDatasets
from app.services.embedders import Embedders
from app.services.embedding_runs import EmbeddingRuns
from app.services.extraction_runs import ExtractionRuns
from app.services.files import Files
from app.services.items import Items
from app.services.jobs import Jobs
from app.services.llms import Llms
from app.services.overview import Overview
from app.services.owners import Owners
from app.services.planning import Planning
from app.services.progress import Progress
from app.services.quickstart import Quickstart
from app.services.reading import Reading
from app.services.search import Search
from app.services.topic_naming import TopicNamer
from app.services.visualization_runs import VisualizationRuns
from app.services.visualization_transforms import VisualizationTransforms
from app.services.visualizations import Visualizations
from app.storage.postgres.session import Database, DatabaseOptions
from app.storage.qdrant import VectorStore, VectorStoreOptions
from app.storage.s3 import BlobStore, BlobStoreOptions
from brokers import BrokerOptions, Change, JetStreamBroker, QueueSpec, inspect, topology

if TYPE_CHECKING:
    from app.pipeline.projection.runner import ProjectionRunner


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
        )

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
        return JetStreamBroker(self.broker_options, self.queue_specs)

    @once
    def broker_options(self) -> BrokerOptions:
        """What the deployment guide and docs/job-states.md fix about messages."""
        return BrokerOptions(
            servers=self.settings.nats_url,
            replicas=self.settings.nats_replicas,
            backoff_seconds=self.policies.backoff_seconds,
            max_attempts=MAX_ATTEMPTS,
            hung_grace_seconds=HUNG_GRACE_SECONDS,
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
        letters = LettersAndRows(self.database, self.broker, Burial(self.services.jobs, self.feed))
        return Sweeps(self.database, self.outbox, self.blobs, self.vectors, letters)

    @once
    def http(self) -> OutboundClient:
        """The one client for addresses that users name."""
        return OutboundClient(OutboundOptions(allowed_hosts=self.settings.outbound_allowed_hosts))

    @once
    def secrets(self) -> SecretBox:
        """Seals the keys of providers."""
        return SecretBox(self.settings.encryption_master_key, self.settings.encryption_retired_keys)

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
        return Accounts(self.settings, self.database, self.secrets)

    @once
    def services(self) -> Services:
        """The use cases."""
        return Services(self)

    @property
    def health_checks(self) -> Mapping[str, Callable[[], object]]:
        """What readiness asks; each raises when its server does not answer."""
        return {
            "postgres": self.database.ping,
            "qdrant": self.vectors.ping,
            "s3": self.blobs.ping,
            "nats": lambda: inspect.ping(self.broker),
            "tika": lambda: tika_server.ping(self.settings.tika_server_endpoint),
        }

    def close(self) -> None:
        """Give back what this process holds; only what was built is closed."""
        built = vars(self)
        for name in ("feed", "vectors", "database", "projection_runner", "http", "accounts"):
            if name in built:
                built[name].close()


class Services:
    """One attribute per noun, named like its file; each is built on first use."""

    def __init__(self, container: Container) -> None:
        self._of = container

    @once
    def owners(self) -> Owners:
        """Who there is."""
        return Owners(self._of.database)

    @once
    def collections(self) -> Collections:
        """Sets of files."""
        return Collections(self._of.database, self._of.outbox)

    @once
    def files(self) -> Files:
        """Uploads."""
        of = self._of
        return Files(
            of.database,
            of.outbox,
            of.blobs,
            detect=extractors.detect,
            max_file_size_bytes=of.settings.max_file_size_bytes,
            scratch_dir=of.settings.scratch_dir,
        )

    @once
    def datasets(self) -> Datasets:
        """Sets of items."""
        return Datasets(self._of.database, self._of.outbox)

    @once
    def items(self) -> Items:
        """Documents and their chunks."""
        return Items(self._of.database, self._of.outbox, count_tokens=count_tokens)

    @once
    def embedders(self) -> Embedders:
        """Configured providers and models."""
        of = self._of
        threads = of.settings.embedding_threads or None
        build = partial(embedding.build, http=of.http, cache_dir=of.settings.model_cache_dir, threads=threads)
        return Embedders(of.database, of.secrets, build, of.http.check)

    @once
    def llms(self) -> Llms:
        """Configured language models."""
        of = self._of
        return Llms(of.database, of.secrets, lambda spec: generation.build(spec, of.http), of.http.check)

    @once
    def collection_transforms(self) -> CollectionTransforms:
        """Files to items."""
        return CollectionTransforms(
            self._of.database,
            self._of.outbox,
            check_extraction=lambda raw: parse_extraction_config(raw).model_dump(),
            check_chunking=lambda raw: chunkers.parse_chunking_config(raw).model_dump(),
        )

    @once
    def dataset_transforms(self) -> DatasetTransforms:
        """Items to vectors."""
        return DatasetTransforms(self._of.database, self._of.outbox)

    @once
    def embedded_datasets(self) -> EmbeddedDatasets:
        """Vector indexes."""
        return EmbeddedDatasets(self._of.database, self._of.outbox, self._of.vectors)

    @once
    def visualization_transforms(self) -> VisualizationTransforms:
        """Vectors to maps."""
        return VisualizationTransforms(self._of.database, self._of.outbox, check_config=check_config)

    @once
    def visualizations(self) -> Visualizations:
        """Maps."""
        return Visualizations(self._of.database, self._of.outbox, self._of.blobs, arrow.read_points)

    @once
    def search(self) -> Search:
        """Search by meaning."""
        return Search(self._of.database, self._of.vectors, self.embedders.client)

    @once
    def progress(self) -> Progress:
        """How far a collection is."""
        return Progress(self._of.database)

    @once
    def overview(self) -> Overview:
        """What a person sees at a glance."""
        return Overview(self._of.database)

    @once
    def reading(self) -> Reading:
        """A document with its passages."""
        return Reading(self._of.database)

    @once
    def quickstart(self) -> Quickstart:
        """A complete pipeline in one go."""
        return Quickstart(
            self.collections,
            self.datasets,
            self.collection_transforms,
            self.embedders,
            self.dataset_transforms,
            self.visualization_transforms,
            self.overview,
        )

    @once
    def jobs(self) -> Jobs:
        """The life of jobs."""
        return Jobs(self._of.database, self._of.outbox)

    @once
    def cancelling(self) -> Cancelling:
        """Stops work."""
        return Cancelling(self._of.database, self.jobs, self._of.feed)

    @once
    def planning(self) -> Planning:
        """What is not done yet."""
        return Planning(self._of.database, self._of.outbox, self.jobs, self._of.feed)

    @once
    def extraction_runs(self) -> ExtractionRuns:
        """The work of the collections pool."""
        of, settings = self._of, self._of.settings
        limits = ExtractionLimits(settings.max_file_size_bytes, timeout_seconds=settings.tika_timeout_secs)

        def read(source: SourceFile, raw: Mapping[str, Any]) -> Document:
            config = parse_extraction_config(raw)
            context = ExtractionContext(of.settings.tika_server_endpoint, config, limits)
            return extractors.extract(source, context)

        return ExtractionRuns(
            of.database,
            of.outbox,
            self.jobs,
            of.feed,
            of.blobs,
            read=read,
            build_chunker=lambda raw: chunkers.build(chunkers.parse_chunking_config(raw)),
            scratch_dir=of.settings.scratch_dir,
        )

    @once
    def embedding_runs(self) -> EmbeddingRuns:
        """The work of the datasets pool."""
        of = self._of
        return EmbeddingRuns(of.database, self.jobs, of.feed, of.vectors, embedder=self.embedders.client)

    @once
    def visualization_runs(self) -> VisualizationRuns:
        """The work of the visualizations pool."""
        of = self._of
        return VisualizationRuns(
            of.database,
            of.outbox,
            self.jobs,
            of.feed,
            of.vectors,
            of.blobs,
            runner=lambda: of.projection_runner,
            namer=lambda owner, llm, wishes: TopicNamer(lambda: self.llms.client(owner, llm), wishes),
            max_points=of.settings.max_visualization_points,
            scratch_dir=of.settings.scratch_dir,
        )


def build(settings: Settings) -> Container:
    """The container of this process."""
    return Container(settings)
