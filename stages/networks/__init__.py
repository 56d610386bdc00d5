"""Segmentation networks: (B, 3, H, W) images to (B, C, H, W) logits. Start at ``build.build_network``."""
