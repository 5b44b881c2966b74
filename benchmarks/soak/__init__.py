"""What is done to files that are being written, and what becomes of them."""
