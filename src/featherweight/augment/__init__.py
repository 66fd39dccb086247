"""Augmentations: pure functions on batches of training images, computed on the device with one draw per sample."""
