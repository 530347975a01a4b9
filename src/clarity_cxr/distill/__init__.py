"""The teacher's logits, computed ahead for every film and epoch."""
