"""What Tollgate adds to vLLM; installed into the engine environment, loaded by vLLM in each of its processes."""
