"""What is wrong with a data set, and the competition file that describes one."""
