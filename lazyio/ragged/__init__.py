"""Rows of differing length or shape: values end to end, and offsets that say where each row is."""
