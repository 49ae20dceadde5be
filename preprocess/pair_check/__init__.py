"""Whether the garment image of a pair shows the garment that is worn: by statistics, and by a model's embeddings."""
