"""The models that layer dropping is shown on; each runs at full depth unless blocks are skipped."""
