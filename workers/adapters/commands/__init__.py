"""What `tollgate-worker adapter` can be asked: one module per command."""
