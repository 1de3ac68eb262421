"""What replicas share, and how it is reached. `redis` is the only importer of Redis' client."""
