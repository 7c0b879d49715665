"""The inside of the development vector server: Qdrant's Edge engine, one shard per collection."""
