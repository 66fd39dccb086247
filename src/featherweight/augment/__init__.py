"""What is done to training images on the device: pure functions on batches, one draw per sample."""
