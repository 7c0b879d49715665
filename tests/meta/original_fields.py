"""What the original's answers are called, route by route: its clients find these names here, too.

A line has the route, the place in its answer (`.` is the top, `a.b` is b of a or of each of its rows), and
the names. `{}` stands for an id. Lists whose rows have no name there are looked into only.
"""

_PLACE = "collection_id title details owner_id owner_display_name tags is_public created_at updated_at"
_DATASET = "dataset_id title details owner_id owner_display_name tags is_public item_count total_chunks"
_EMBEDDER = (
    "embedder_id name provider base_url config batch_size dimensions max_input_tokens truncate_strategy"
)
_LLM = "llm_id name provider model base_url config is_public"
_EMBEDDED = "embedded_dataset_id title owner_id dataset_transform_id source_dataset_id embedder_id dimensions"
_JOINED = "source_dataset_title embedder_name dimensions is_standalone collection_id collection_title"
_FILE = "file_key process_status process_error item_count processing_duration_ms processed_at"
_BATCH = "batch_key status chunk_count error_message processing_duration_ms processed_at"
_MAP = "visualization_id visualization_transform_id status started_at completed_at point_count cluster_count"
_LAST_RUN = "last_run_status last_run_at last_error last_run_stats"
_CHUNKS = "total_chunks_{} total_chunks_processing total_chunks_failed total_chunks_to_process"
_TOKENS = "access_token id_token refresh_token token_type user_info"
_USER = "sub preferred_username email email_verified name picture"
_WINDOW = "total_count limit offset"

FIELDS = f"""
GET /api/auth/authorize . authorization_url nonce pkce_verifier
POST /api/token . {_TOKENS}
POST /api/token user_info {_USER}
POST /api/auth/device . device_code user_code verification_uri verification_uri_complete expires_in interval
POST /api/auth/device/poll . {_TOKENS}
POST /api/auth/refresh . {_TOKENS}
GET /api/users/@me . username email avatar
GET /api/auth/sessions . sessions total
GET /api/auth/sessions sessions session_id created_at last_activity
GET /api/auth/sessions sessions expires_at ip_address user_agent is_current

GET /api/status/nats . connection streams consumers dlq
GET /api/status/nats connection state server_url
GET /api/status/nats streams name messages bytes consumer_count first_seq
GET /api/status/nats streams last_seq first_ts last_ts subjects retention
GET /api/status/nats consumers name stream num_pending
GET /api/status/nats consumers num_ack_pending num_waiting num_redelivered num_delivered
GET /api/status/nats consumers num_ack_floor last_delivered_seq ack_floor_seq
GET /api/status/nats dlq total_messages total_bytes by_subject
GET /api/status/nats dlq.by_subject subject count

GET /api/collections . collections {_WINDOW}
GET /api/collections collections {_PLACE}
GET /api/collections/search . collections {_WINDOW}
POST /api/collections . {_PLACE}
GET /api/collections/{{}} . {_PLACE}
PATCH /api/collections/{{}} . {_PLACE}
POST /api/collections/{{}}/files . completed failed
POST /api/collections/{{}}/files failed name error
GET /api/collections/{{}}/files . files page page_size has_more continuation_token total_count
GET /api/collections/{{}}/files files key size last_modified content_type
GET /api/collections/{{}}/failed-files . items total_count
GET /api/collections/{{}}/failed-files items {_FILE} transform_title

GET /api/datasets . items {_WINDOW}
GET /api/datasets items {_DATASET}
POST /api/datasets . {_DATASET}
GET /api/datasets/{{}} . {_DATASET}
PATCH /api/datasets/{{}} . {_DATASET}
POST /api/datasets/{{}}/items . completed failed
GET /api/datasets/{{}}/items . items page page_size total_count has_more
GET /api/datasets/{{}}/items items item_id dataset_id title chunks metadata created_at updated_at
GET /api/datasets/{{}}/items items.chunks content metadata
GET /api/datasets/{{}}/items-summary . items page page_size total_count has_more
GET /api/datasets/{{}}/items-summary items item_id dataset_id title chunk_count metadata created_at updated_at
GET /api/datasets/{{}}/embedded-datasets . embedded_datasets

GET /api/embedded-datasets . embedded_datasets {_WINDOW}
GET /api/embedded-datasets embedded_datasets {_EMBEDDED}
GET /api/embedded-datasets/{{}} . {_EMBEDDED} {_JOINED}
PATCH /api/embedded-datasets/{{}} . {_EMBEDDED}
GET /api/embedded-datasets/{{}}/stats . last_run_at first_processing_at avg_processing_duration_ms
GET /api/embedded-datasets/{{}}/points . points total_count next_offset
GET /api/embedded-datasets/{{}}/points points id payload
GET /api/embedded-datasets/{{}}/points/{{}}/vector . vector
GET /api/embedded-datasets/{{}}/processed-batches items {_BATCH}
GET /api/embedded-datasets/{{}}/visualizations items {_MAP}
POST /api/embedded-datasets/standalone . {_EMBEDDED} {_JOINED}
POST /api/embedded-datasets/{{}}/push-vectors . points_inserted collection_name

GET /api/embedders items {_EMBEDDER} is_public
POST /api/embedders . {_EMBEDDER} is_public
POST /api/embedders/{{}}/test . success message dimensions
GET /api/llms items {_LLM}
POST /api/llms . {_LLM}

GET /api/collection-transforms . items {_WINDOW}
GET /api/collection-transforms/{{}} . collection_transform_id title collection_id
GET /api/collection-transforms/{{}} . dataset_id owner_id is_enabled
GET /api/collection-transforms/{{}} . chunk_size job_config created_at updated_at
POST /api/collection-transforms/{{}}/retry-failed . retried_count
GET /api/collection-transforms/{{}}/stats . total_files_processed successful_files failed_files
GET /api/collection-transforms/{{}}/stats . total_items_created last_run_at
GET /api/collection-transforms/{{}}/processed-files items {_FILE}
POST /api/dataset-transforms . transform embedded_datasets message
POST /api/dataset-transforms transform dataset_transform_id title source_dataset_id
POST /api/dataset-transforms transform embedder_ids is_enabled job_config
GET /api/dataset-transforms . items {_WINDOW}
GET /api/dataset-transforms/{{}}/stats . embedder_count status current_run_id current_run_started_at
GET /api/dataset-transforms/{{}}/stats . total_batches_processed successful_batches failed_batches
GET /api/dataset-transforms/{{}}/stats . processing_batches total_batches_dispatched
GET /api/dataset-transforms/{{}}/stats . {_CHUNKS.format("embedded")} total_chunks_dispatched
GET /api/dataset-transforms/{{}}/stats . last_run_at first_processing_at
GET /api/dataset-transforms/{{}}/batches . items {_WINDOW}
GET /api/dataset-transforms/{{}}/batches items {_BATCH}
GET /api/dataset-transforms/{{}}/batches/{{}} . {_BATCH}
GET /api/visualization-transforms . items {_WINDOW}
GET /api/visualization-transforms/{{}} . visualization_transform_id title
GET /api/visualization-transforms/{{}} . embedded_dataset_id owner_id is_enabled
GET /api/visualization-transforms/{{}} . visualization_config {_LAST_RUN} created_at updated_at
GET /api/visualization-transforms/{{}}/stats . latest_visualization total_runs successful_runs failed_runs
GET /api/visualization-transforms/{{}}/visualizations items {_MAP} error_message stats_json created_at
GET /api/visualization-transforms/{{}}/visualizations/{{}} . {_MAP} error_message stats_json created_at
GET /api/visualizations/recent items {_MAP} created_at

POST /api/search . results query search_mode
POST /api/search results embedded_dataset_id embedded_dataset_title source_dataset_id source_dataset_title
POST /api/search results embedder_id embedder_name collection_name matches documents error
POST /api/search results.matches id score text metadata
POST /api/search results.documents item_id item_title best_score chunk_count best_chunk
POST /api/chat/sessions . session_id title embedded_dataset_id llm_id
GET /api/chat/sessions sessions session_id title
GET /api/chat/sessions/{{}}/messages messages message_id role content status retrieved_documents
POST /api/chat/sessions/{{}}/messages . message_id content documents_retrieved retrieved_documents created_at
POST /api/chat/sessions/{{}}/messages retrieved_documents document_id text similarity_score item_title
POST /api/chat/messages/{{}}/regenerate . message_id content
POST /api/chat/messages/{{}}/regenerate . documents_retrieved retrieved_documents created_at
"""
