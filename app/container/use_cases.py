"""The use cases, one attribute per noun; what they stand on comes from the container."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from app.once import once
from app.pipeline.chunking import registry as chunkers
from app.pipeline.chunking.wordpiece import count_tokens
from app.pipeline.document import Document
from app.pipeline.embedding import registry as embedding
from app.pipeline.extraction import registry as extractors
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.config import parse_extraction_config
from app.pipeline.extraction.context import ExtractionContext, ExtractionLimits
from app.pipeline.generation import registry as generation
from app.pipeline.projection import arrow
from app.pipeline.projection.config import check_config
from app.pipeline.reranking import Reranker
from app.services.batches import Batches
from app.services.cancelling import Cancelling
from app.services.chat import Chats
from app.services.chat_answers import ChatAnswers
from app.services.collection_transforms import CollectionTransforms
from app.services.collections import Collections
from app.services.dataset_transforms import DatasetTransforms
from app.services.datasets import Datasets
from app.services.embedded_datasets import EmbeddedDatasets
from app.services.embedders import Embedders
from app.services.embedding_runs import EmbeddingRuns
from app.services.extraction_runs import ExtractionRuns
from app.services.files import Files
from app.services.grabbing import Grabbing
from app.services.idempotency import Idempotency
from app.services.items import Items
from app.services.jobs import Jobs
from app.services.llms import Llms
from app.services.overview import Overview
from app.services.owners import Owners
from app.services.planning import Planning
from app.services.progress import Progress
from app.services.queue_status import QueueStatus
from app.services.quickstart import Quickstart
from app.services.reading import Reading
from app.services.search import Search
from app.services.topic_naming import TopicNamer
from app.services.visualization_runs import VisualizationRuns
from app.services.visualization_transforms import VisualizationTransforms
from app.services.visualizations import Visualizations
from brokers import server_report

if TYPE_CHECKING:
    from app.container.parts import Container


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
        return Llms(
            of.database,
            of.secrets,
            lambda spec: generation.build(spec, of.http),
            of.http.check,
            lambda base_url, model, key: Reranker(base_url, model, key, of.http),
        )

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
    def batches(self) -> Batches:
        """Embedding jobs of a transform."""
        return Batches(self._of.database, self._of.outbox)

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
        return Search(self._of.database, self._of.vectors, self.embedders.client, self.llms.reranker)

    @once
    def grabbing(self) -> Grabbing:
        """Copies of what is public."""
        return Grabbing(self._of.database, self._of.outbox, self._of.blobs)

    @once
    def chats(self) -> Chats:
        """Conversations."""
        return Chats(self._of.database)

    @once
    def chat_answers(self) -> ChatAnswers:
        """What a language model says of passages."""
        return ChatAnswers(self._of.database, self.search, self.llms.client, count_tokens)

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
    def idempotency(self) -> Idempotency:
        """Requests that name themselves."""
        return Idempotency(self._of.database)

    @once
    def jobs(self) -> Jobs:
        """The life of jobs."""
        return Jobs(self._of.database, self._of.outbox)

    @once
    def queue_status(self) -> QueueStatus:
        """The message server."""
        return QueueStatus(lambda: server_report(self._of.broker))

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
