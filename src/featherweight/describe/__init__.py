"""What `init` writes: the competition file that describes a folder of images."""
