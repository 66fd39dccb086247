"""What is done to training images on the device: pure functions on batches, a draw per sample."""
