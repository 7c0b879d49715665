"""What the original offers over HTTP, route by route: a client written for it finds each of them here, too.

`{}` stands for an id. What it had in one of its two versions only is among them.
"""

ROUTES = """
GET /auth_callback
GET /logout
GET /api/auth/authorize
POST /api/token
POST /api/auth/device
POST /api/auth/device/poll
POST /api/auth/refresh
GET /api/users/@me
GET /api/auth/sessions
DELETE /api/auth/sessions
DELETE /api/auth/sessions/{}

GET /health
GET /health/live
GET /health/ready
GET /metrics
GET /api/status/nats
GET /api/openapi.json

GET /api/collections
GET /api/collections/{}
GET /api/collections/search
POST /api/collections
PATCH /api/collections/{}
DELETE /api/collections/{}
POST /api/collections/{}/files
GET /api/collections/{}/files
GET /api/collections/{}/files/{}
DELETE /api/collections/{}/files/{}
GET /api/collections-allowed-file-types
GET /api/collections/{}/transforms
GET /api/collections/{}/failed-files

GET /api/datasets
POST /api/datasets
GET /api/datasets/{}
PATCH /api/datasets/{}
DELETE /api/datasets/{}
GET /api/datasets/embedders
POST /api/datasets/{}/items
GET /api/datasets/{}/items
GET /api/datasets/{}/items-summary
GET /api/datasets/{}/items/{}/chunks
DELETE /api/datasets/{}/items/{}
GET /api/datasets/{}/transforms
GET /api/datasets/{}/collection-transforms
GET /api/datasets/{}/embedded-datasets

GET /api/embedded-datasets
GET /api/embedded-datasets/{}
PATCH /api/embedded-datasets/{}
DELETE /api/embedded-datasets/{}
GET /api/embedded-datasets/{}/stats
POST /api/embedded-datasets/batch-stats
GET /api/embedded-datasets/{}/points
GET /api/embedded-datasets/{}/points/{}/vector
GET /api/embedded-datasets/{}/processed-batches
GET /api/embedded-datasets/{}/visualizations
POST /api/embedded-datasets/standalone
POST /api/embedded-datasets/{}/push-vectors

GET /api/embedders
POST /api/embedders
GET /api/embedders/{}
PATCH /api/embedders/{}
DELETE /api/embedders/{}
POST /api/embedders/{}/test
GET /api/embedding-inference/models
GET /api/llms
POST /api/llms
GET /api/llms/{}
PATCH /api/llms/{}
DELETE /api/llms/{}
GET /api/llm-inference/models

GET /api/marketplace/collections
GET /api/marketplace/collections/recent
POST /api/marketplace/collections/{}/grab
GET /api/marketplace/datasets
GET /api/marketplace/datasets/recent
POST /api/marketplace/datasets/{}/grab
GET /api/marketplace/embedders
GET /api/marketplace/embedders/recent
POST /api/marketplace/embedders/{}/grab
GET /api/marketplace/llms
GET /api/marketplace/llms/recent
POST /api/marketplace/llms/{}/grab

GET /api/collection-transforms
POST /api/collection-transforms
GET /api/collection-transforms/{}
PATCH /api/collection-transforms/{}
DELETE /api/collection-transforms/{}
POST /api/collection-transforms/{}/trigger
POST /api/collection-transforms/{}/retry-failed
GET /api/collection-transforms/{}/stats
GET /api/collection-transforms/{}/processed-files
GET /api/collection-transforms/stream

GET /api/dataset-transforms
POST /api/dataset-transforms
GET /api/dataset-transforms/{}
PATCH /api/dataset-transforms/{}
DELETE /api/dataset-transforms/{}
POST /api/dataset-transforms/{}/trigger
POST /api/dataset-transforms/{}/retry-failed
POST /api/dataset-transforms/{}/batches/{}/retry
GET /api/dataset-transforms/{}/stats
GET /api/dataset-transforms/{}/detailed-stats
GET /api/dataset-transforms/{}/batches
GET /api/dataset-transforms/{}/batches/{}
GET /api/dataset-transforms/{}/batches/stats
GET /api/dataset-transforms/stream

GET /api/visualization-transforms
POST /api/visualization-transforms
GET /api/visualization-transforms/{}
PATCH /api/visualization-transforms/{}
DELETE /api/visualization-transforms/{}
POST /api/visualization-transforms/{}/trigger
GET /api/visualization-transforms/{}/stats
GET /api/visualization-transforms/{}/visualizations
GET /api/visualization-transforms/{}/visualizations/{}
GET /api/visualization-transforms/{}/visualizations/{}/download
GET /api/visualizations/recent
GET /api/visualization-transforms/stream

POST /api/search
POST /api/chat/sessions
GET /api/chat/sessions
GET /api/chat/sessions/{}
DELETE /api/chat/sessions/{}
GET /api/chat/sessions/{}/messages
POST /api/chat/sessions/{}/messages
POST /api/chat/sessions/{}/messages/stream
POST /api/chat/messages/{}/regenerate
"""
