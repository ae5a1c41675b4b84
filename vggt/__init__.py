"""Scene geometry encoder: image encoder and alternating-attention aggregator."""
