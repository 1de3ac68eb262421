"""What fits where: weights, KV cache, speed and cost by arithmetic, from a model's shape and a GPU's data sheet."""
