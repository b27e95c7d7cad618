"""The network: U-Net, memories and losses. Needs PyTorch (the `train` extra)."""
