"""The use cases, one attribute per noun; what they stand on comes from the container."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from app.once import once
from app.pipeline.chunking import registry as chunkers
from app.pipeline.chunking.wordpiece import count_tokens
from app.pipeline.document import Document
from app.pipeline.extraction import registry as extractors
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.config import parse_extraction_config
from app.pipeline.extraction.context import ExtractionContext, ExtractionLimits
from app.pipeline.projection import arrow
from app.pipeline.projection.config import check_config
from app.pipeline.reranking import Reranker
from app.services.batches import Batches
from app.services.bulk import Bulk
from app.services.cancelling import Cancelling
from app.services.chat import Chats
from app.services.chat_answers import ChatAnswers
from app.services.chunkers import Chunkers
from app.services.collection_transforms import CollectionTransforms
from app.services.collections import Collections
from app.services.dataset_transforms import DatasetTransforms
from app.services.datasets import Datasets
from app.services.dead_letters import DeadLetters
from app.services.embedded_datasets import EmbeddedDatasets
from app.services.embedders import Embedders
from app.services.embedding_runs import EmbeddingRuns
from app.services.exports import Exports
from app.services.extraction_runs import ExtractionRuns
from app.services.files import Files
from app.services.grabbing import Grabbing
from app.services.idempotency import Idempotency
from app.services.inference import Inference, Kind
from app.services.items import Items
from app.services.job_desk import JobDesk
from app.services.jobs import Jobs
from app.services.letter_acts import LetterActs
from app.services.letter_bulks import LetterBulks
from app.services.letter_content import Contents
from app.services.letter_ends import LetterEnds
from app.services.letter_import import LetterImport
from app.services.letter_moves import LetterMoves
from app.services.llms import Llms
from app.services.overview import Overview
from app.services.owners import Owners
from app.services.planning import Planning
from app.services.previews import Previews
from app.services.progress import Progress
from app.services.queue_status import QueueStatus
from app.services.queues import Queues, Topology
from app.services.quickstart import Quickstart
from app.services.reading import Reading
from app.services.search import Search
from app.services.standalone import Standalone
from app.services.topic_naming import TopicNamer
from app.services.transform_runs import TransformRuns
from app.services.usage import Usages
from app.services.visualization_runs import VisualizationRuns
from app.services.visualization_transforms import VisualizationTransforms
from app.services.visualizations import Visualizations
from brokers import server_report, topology

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
    def inference(self) -> Inference:
        """The operator's own inference services."""
        settings = self._of.settings
        urls: dict[Kind, str | None] = {
            "embedding": settings.embedding_inference_api_url,
            "llm": settings.llm_inference_api_url,
        }
        return Inference(self._of.own_http, urls)

    @once
    def embedders(self) -> Embedders:
        """Configured providers and models."""
        of = self._of
        return Embedders(of.database, of.secrets, of.open_embedder, of.http.check)

    @once
    def llms(self) -> Llms:
        """Configured language models."""
        of = self._of
        reranker = partial(Reranker, http=of.http)
        return Llms(of.database, of.secrets, of.open_llm, of.http.check, reranker)

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
    def transform_runs(self) -> TransformRuns:
        """How far each run of a transform is."""
        return TransformRuns(self._of.database)

    @once
    def batches(self) -> Batches:
        """Embedding jobs of a transform."""
        return Batches(self._of.database, self._of.outbox)

    @once
    def embedded_datasets(self) -> EmbeddedDatasets:
        """Vector indexes."""
        return EmbeddedDatasets(self._of.database, self._of.outbox, self._of.vectors)

    @once
    def standalone(self) -> Standalone:
        """Vectors from outside."""
        return Standalone(self._of.database, self._of.vectors, self.embedded_datasets)

    @once
    def visualization_transforms(self) -> VisualizationTransforms:
        """Vectors to maps."""
        return VisualizationTransforms(self._of.database, self._of.outbox, check_config=check_config)

    @once
    def visualizations(self) -> Visualizations:
        """Maps."""
        return Visualizations(self._of.database, self._of.outbox, self._of.blobs, arrow.read_points)

    @once
    def exports(self) -> Exports:
        """Whole things as rows."""
        return Exports(self._of.database, self._of.vectors, self.visualizations)

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
            self.collections, self.datasets, self.collection_transforms, self.embedders,
            self.dataset_transforms, self.visualization_transforms, self.overview, self.embedded_datasets,
        )  # fmt: skip

    @once
    def idempotency(self) -> Idempotency:
        """Requests that name themselves."""
        return Idempotency(self._of.database)

    @once
    def jobs(self) -> Jobs:
        """The life of jobs."""
        return Jobs(self._of.database, self._of.outbox)

    @once
    def bulk(self) -> Bulk:
        """One verb on many things."""
        return Bulk(
            deletes={
                "collections": self.collections.delete, "files": self.files.delete,
                "datasets": self.datasets.delete, "items": self.items.delete,
                "embedders": self.embedders.delete, "llms": self.llms.delete,
                "embedded-datasets": self.embedded_datasets.delete,
                "visualizations": self.visualizations.delete, "chat-sessions": self.chats.delete,
                "collection-transforms": self.collection_transforms.delete,
                "dataset-transforms": self.dataset_transforms.delete,
                "visualization-transforms": self.visualization_transforms.delete,
            },
            triggers={
                "collection-transforms": self.collection_transforms.trigger,
                "dataset-transforms": self.dataset_transforms.trigger,
                "visualization-transforms": self.visualization_transforms.trigger,
            },
        )  # fmt: skip

    @once
    def usages(self) -> Usages:
        """How much each owner has."""
        return Usages(self._of.database, self._of.vectors)

    @once
    def queue_status(self) -> QueueStatus:
        """The message server."""
        return QueueStatus(lambda: server_report(self._of.broker))

    @once
    def cancelling(self) -> Cancelling:
        """Stops work."""
        return Cancelling(self._of.database, self.jobs, self._of.feed)

    @once
    def queues(self) -> Queues:
        """Depth, workers, pauses, configuration."""
        of = self._of
        wanted = partial(topology.intended, of.broker_options, of.queue_specs)
        compared = Topology(wanted, partial(of.apply_topology, dry_run=True))
        return Queues(of.database, of.broker, of.audit, compared)

    @once
    def job_desk(self) -> JobDesk:
        """What is done with jobs by hand."""
        of = self._of
        return JobDesk(of.database, self.jobs, self.cancelling, of.dispatcher, self.letter_acts, of.audit)

    @once
    def dead_letters(self) -> DeadLetters:
        """Messages that were given up."""
        return DeadLetters(self._of.database, self._of.audit.trail, Contents(self._of.broker))

    @once
    def letter_ends(self) -> LetterEnds:
        """Letters that leave their stream."""
        of = self._of
        return LetterEnds(of.database, of.audit.trail, of.broker, of.letter_index)

    @once
    def letter_acts(self) -> LetterActs:
        """What is done with one dead letter."""
        of = self._of
        return LetterActs(
            of.database,
            of.audit.trail,
            of.broker,
            of.outbox,
            self.letter_ends,
            undo_period=timedelta(seconds=of.settings.dlq_undo_secs),
            max_replays=of.broker_options.max_replays,
        )

    @once
    def letter_import(self) -> LetterImport:
        """Letters that come back from an export."""
        of = self._of
        return LetterImport(of.database, of.audit.trail, of.broker, of.letter_index, self.letter_ends)

    @once
    def letter_moves(self) -> LetterMoves:
        """Letters whose work is done elsewhere, or later."""
        of, most = self._of, self._of.broker_options.max_replays
        return LetterMoves(of.database, of.audit.trail, of.outbox, self.letter_ends, most)

    @once
    def letter_bulks(self) -> LetterBulks:
        """Acts on many dead letters at once."""
        of = self._of
        return LetterBulks(of.database, of.audit.trail, of.settings.dlq_two_person_above)

    @once
    def planning(self) -> Planning:
        """What is not done yet."""
        return Planning(self._of.database, self._of.outbox, self.jobs, self._of.feed)

    @once
    def chunkers(self) -> Chunkers:
        """How documents are cut."""
        return Chunkers(self.embedders.client)

    @once
    def extraction_runs(self) -> ExtractionRuns:
        """The work of the collections pool."""
        of = self._of
        return ExtractionRuns(
            of.database,
            of.outbox,
            self.jobs,
            of.feed,
            of.blobs,
            read=self._read_document,
            build_chunker=self.chunkers.build,
            scratch_dir=of.settings.scratch_dir,
        )

    @once
    def previews(self) -> Previews:
        """What a configuration would make of a file."""
        return Previews(
            self.files,
            self.collection_transforms.complete,
            read=self._read_document,
            build_chunker=partial(self.chunkers.build, patience_seconds=0),
            scratch_dir=self._of.settings.scratch_dir,
        )

    def _read_document(self, source: SourceFile, raw: Mapping[str, Any]) -> Document:
        settings = self._of.settings
        limits = ExtractionLimits(settings.max_file_size_bytes, timeout_seconds=settings.tika_timeout_secs)
        config = parse_extraction_config(raw)
        context = ExtractionContext(settings.tika_server_endpoint, config, limits)
        return extractors.extract(source, context)

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
