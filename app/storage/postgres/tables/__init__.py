"""All tables, so that metadata is complete wherever one is needed."""

from __future__ import annotations

from app.storage.postgres.tables.audit import AuditEvent, AuditHead
from app.storage.postgres.tables.base import Base
from app.storage.postgres.tables.chat import ChatCitation, ChatMessage, ChatSession
from app.storage.postgres.tables.collections import Collection, File
from app.storage.postgres.tables.datasets import ChunkRow, Dataset, Item
from app.storage.postgres.tables.dead_letters import (
    DeadLetterBulk,
    DeadLetterBulkItem,
    DeadLetterGroup,
    DeadLetterHour,
    DeadLetterRow,
)
from app.storage.postgres.tables.embedders import EmbedderRow
from app.storage.postgres.tables.idempotency import IdempotentRequest
from app.storage.postgres.tables.jobs import ACTIVE_STATES, FINAL_STATES, Job
from app.storage.postgres.tables.llms import LlmRow
from app.storage.postgres.tables.master_keys import MasterKey
from app.storage.postgres.tables.owners import Owner
from app.storage.postgres.tables.provider_circuits import ProviderCircuit
from app.storage.postgres.tables.queue_pauses import QueuePause
from app.storage.postgres.tables.rate_limits import RateLimitRow
from app.storage.postgres.tables.reconciliations import Reconciliation
from app.storage.postgres.tables.sign_in import ApiToken, SessionRow, SignInRow, User
from app.storage.postgres.tables.transforms import (
    CollectionTransform,
    DatasetTransform,
    EmbeddedDataset,
    FileExtraction,
    ItemEmbedding,
    VisualizationTransform,
)
from app.storage.postgres.tables.visualizations import Visualization, VisualizationCluster

__all__ = [
    "ACTIVE_STATES", "FINAL_STATES", "ApiToken", "AuditEvent", "AuditHead", "Base", "ChatCitation",
    "ChatMessage", "ChatSession", "ChunkRow", "Collection", "CollectionTransform", "Dataset",
    "DatasetTransform", "DeadLetterBulk", "DeadLetterBulkItem", "DeadLetterGroup", "DeadLetterHour",
    "DeadLetterRow", "EmbeddedDataset", "EmbedderRow", "File", "FileExtraction", "IdempotentRequest",
    "Item", "ItemEmbedding", "Job", "LlmRow", "MasterKey", "Owner", "ProviderCircuit", "QueuePause",
    "RateLimitRow", "Reconciliation", "SessionRow", "SignInRow", "User", "Visualization",
    "VisualizationCluster", "VisualizationTransform",
]  # fmt: skip
