"""One model at 16, 8 and 4 bits on one device: how fast, how large and how much like itself it still is, measured
through the real engine and shown beside what was published for LLaMA-7B on an A100."""
