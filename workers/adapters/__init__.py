"""LoRA adapters: trained on examples, examined before an engine loads them, registered once they are proven."""
